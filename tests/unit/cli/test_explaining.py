"""What `offerd explain` prints."""

from __future__ import annotations

import io

from rich.console import Console

from offerd.ids import FrameworkID
from offerd.operator_messages import Cause, Explanation, Holding
from offerd.resources import Resources
from offerd_cli.explaining import explanation_document, print_explanation

POOR = Explanation(
    framework_id=FrameworkID("F-1-0001"),
    name="poor",
    role="science",
    state="active",
    share=0.125,
    fair_share=0.25,
    under_share_s=130.0,
    guaranteed=Resources.of(cpus=4),
    under_guarantee_s=4.0,
    limit_room={"cpus": 1500},
    revoking=2,
    being_revoked=0,
    causes=[
        Cause(
            "in_use",
            12,
            'nothing is free there; held: cpus=3,mem=1G by role "batch"',
            holders=[Holding("role", "batch", {"cpus": 3000, "mem": 1 << 30})],
        ),
        Cause("filtered", 3, "its filters exclude them", {"cpus": 500}),
    ],
    needed={"cpus": 2000},
)


def printed(found: Explanation) -> list[str]:
    out = io.StringIO()
    print_explanation(Console(file=out, width=200, markup=False, highlight=False), found)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_shares_first_and_then_the_slaves_by_cause() -> None:
    assert printed(POOR) == [
        "F-1-0001 poor, role science",
        "it holds 12.5%; its fair share is 25.0%: below it for 2m10s",
        "guaranteed to it: 4 cpus; below that for 4s",
        "2 tasks of other frameworks have been asked to make room for it",
        "its limit lets it hold 1.5 cpus more",
        "its filters ask for at least 2 cpus on one slave",
        "SLAVES  WHY",
        '    12  nothing is free there; held: cpus=3,mem=1G by role "batch"',
        "     3  its filters exclude them",
    ]


def test_a_cluster_without_slaves_says_so() -> None:
    lines = printed(Explanation(FrameworkID("F-1-0002"), "new", "*", "active"))
    assert lines[1:] == [
        "it holds 0.0%; its fair share is 0.0%: it has its share",
        "the cluster has no slaves; start one: offerd slave",
    ]


def test_the_document_has_everything() -> None:
    document = explanation_document(POOR)
    assert document["under_share_s"] == 130.0
    assert document["guaranteed"] == {"cpus": 4.0}
    assert document["limit_room"] == {"cpus": 1.5}
    assert document["needed"] == {"cpus": 2.0}
    assert document["causes"] == [
        {
            "why": "in_use",
            "slaves": 12,
            "text": 'nothing is free there; held: cpus=3,mem=1G by role "batch"',
            "free": {},
            "holders": [{"kind": "role", "name": "batch", "amounts": {"cpus": 3.0, "mem": 1 << 30}}],
        },
        {
            "why": "filtered",
            "slaves": 3,
            "text": "its filters exclude them",
            "free": {"cpus": 0.5},
            "holders": [],
        },
    ]
