"""The shapes of `--json`, and the same values in tables for people."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console

from offerd.core.usual_units import usual_resources
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import SlaveInfo, TaskState
from offerd.operator_messages import Cluster, FrameworkSummary, SlaveSummary, TaskSummary
from offerd.resources import Resources
from offerd_cli import documents, render

TOTAL = Resources.parse("cpus=4,mem=8G,ports=[31000-31099],disks={a,b}")
USED = Resources.of(cpus="1.5", mem="512M")
CLUSTER = Cluster(
    "M-1", "0.1.0", 7, 3725.0, 2, 1, TOTAL, USED, Resources.of(cpus=1), {"TASK_RUNNING": 3, "TASK_LOST": 1}
)
SLAVE = SlaveSummary(
    SlaveInfo("host-a", TOTAL, SlaveID("S-1"), {"rack": "7"}),
    "draining",
    used=USED,
    tasks=3,
    used_millicpus=250,
    used_mem_bytes=64 << 20,
)
FRAMEWORK = FrameworkSummary(
    FrameworkID("F-1"), "count [words]", "*", "", "active", used=USED, dominant_share=0.375,
    tasks={"TASK_RUNNING": 3, "TASK_FINISHED": 9}, wasted_resource_s={"cpus": 12.0},
)  # fmt: skip
TASK = TaskSummary(
    TaskID("t.1"), FrameworkID("F-1"), "count", SlaveID("S-1"), "host-a", ExecutorID("command"), TaskState.KILLED,
    resources=USED, time_limit_s=2.0, reason="TASK_TIMEOUT", message="its time is over", ran_s=2.01,
)  # fmt: skip

KEYS = {
    "cluster": "allocator dropped_peers epoch failed_messages frameworks master_id offered refused slaves tasks total "
    "unsent_messages up_s usable used version wasted_resource_s withheld",
    "slave": "attributes disk_full executors facts files_address free hostname isolation long_fraction measured_cpus "
    "measured_mem_bytes offered short_limit_s since_s slave_id state tasks total used",
    "framework": "completion_s dominant_share framework_id guaranteed hostname name needs_offers offered ramp_up_s role "
    "since_s state tasks "
    "under_share_s used user wasted_resource_s",
    "task": "ended_s executor_id exit_status files_address framework_id framework_name hostname launched_s message name "
    "output ran_s reason resources sandbox slave_id state task_id time_limit_s user",
}
"""The keys that programs may rely on: add some, but never rename or remove one."""


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("cluster", documents.cluster_document(CLUSTER)),
        ("slave", documents.slave_document(SLAVE)),
        ("framework", documents.framework_document(FRAMEWORK)),
        ("task", documents.task_document(TASK)),
    ],
)
def test_the_keys_that_programs_count_on_are_there(name: str, document: documents.Document) -> None:
    assert sorted(document) == KEYS[name].split()
    assert json.loads(json.dumps(document)) == document


def test_resources_are_in_the_units_of_people_and_exact() -> None:
    assert usual_resources(TOTAL) == {
        "cpus": 4.0,
        "mem": 8 << 30,
        "ports": [[31000, 31099]],
        "disks": ["a", "b"],
    }


def text_of(draw: object, width: int = 100) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False)
    assert callable(draw)
    draw(out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_status_shows_shares_states_and_brackets_as_they_are() -> None:
    text = text_of(lambda out: render.print_status(out, CLUSTER, [SLAVE], [FRAMEWORK], "127.0.0.1:5060"))
    assert "up 1h02m" in text
    assert "slaves 1 draining" in text
    assert "38%  1.5 of 4  and 1 offered\n" in text
    assert "count [words]" in text
    assert "tasks  3 running 1 lost" in text


def test_status_and_its_document_count_what_can_be_used_and_what_is_withheld_apart() -> None:
    cluster = msgspec.structs.replace(
        CLUSTER, withheld=Resources.of(cpus=2, mem="6G"), offered=Resources.of()
    )
    drained = msgspec.structs.replace(SLAVE, state="drained")
    lost = msgspec.structs.replace(SLAVE, state="lost")
    text = text_of(lambda out: render.print_status(out, cluster, [SLAVE, drained, lost], [], "here"))
    assert "75%  1.5 of 2  and 2 drained or draining\n" in text
    assert "25%  512M of 2G  and 6G drained or draining\n" in text
    document = documents.cluster_document(cluster)
    assert document["total"] == usual_resources(TOTAL)
    assert document["usable"] == {"cpus": 2, "mem": 2 << 30}
    assert document["withheld"] == {"cpus": 2, "mem": 6 << 30}
    everything = msgspec.structs.replace(CLUSTER, withheld=TOTAL, used=Resources.of())
    assert "  0%  0 of 0  and 1 offered, 4 drained" in text_of(
        lambda out: render.print_status(out, everything, [drained], [], "here")
    )


@pytest.mark.parametrize(
    ("state", "shown"), [("active", "disk full"), ("deactivated", "deactivated, disk full")]
)
def test_a_slaves_full_disk_is_shown_beside_its_mode(state: str, shown: str) -> None:
    full = msgspec.structs.replace(SLAVE, state=state, disk_full=True)
    table = render.slaves_table([full])
    assert f" {shown} " in text_of(lambda out: render.print_table(out, table), render.PIPE_WIDTH)
    whole = text_of(lambda out: render.print_status(out, CLUSTER, [full, SLAVE], [], "here"))
    assert f"1 {shown}, 1 draining" in whole


def test_a_table_in_a_pipe_is_as_wide_as_it_must_be_and_has_no_blanks_at_line_ends() -> None:
    text = text_of(lambda out: render.print_table(out, render.tasks_table([TASK])), render.PIPE_WIDTH)
    header, row = text.splitlines()
    assert header.split() == ["TASK", "FRAMEWORK", "HOST", "STATE", "CPUS", "MEM", "LIMIT", "RAN", "WHY"]
    assert row.endswith("TASK_TIMEOUT: its time is over")


def test_a_long_reason_of_several_tasks_stands_below_their_table_once_on_a_terminal() -> None:
    note = "memory is watched, not limited (isolation noop)"
    running = msgspec.structs.replace(TASK, state=TaskState.RUNNING, reason="", message=note)
    tasks = [msgspec.structs.replace(running, task_id=TaskID(f"t.{number}")) for number in range(3)]

    def shown(is_terminal: bool, tasks: list[TaskSummary]) -> list[str]:
        out = Console(
            file=io.StringIO(),
            width=100 if is_terminal else 1000,
            force_terminal=is_terminal,
            color_system=None,
        )
        render.print_tasks(out, tasks)
        assert isinstance(out.file, io.StringIO)
        return [line.rstrip() for line in out.file.getvalue().splitlines()]

    header, *rows, below = shown(True, [*tasks, TASK])
    assert header.split()[-1] == "WHY"
    assert [row.split()[-1] for row in rows[:3]] == ["(1)"] * 3
    assert below == f"(1) {note}"
    assert len(rows) == 4, "nothing wraps"
    assert [line.endswith(note) for line in shown(False, tasks)] == [False, True, True, True]


@pytest.mark.parametrize("table", [render.slaves_table([SLAVE]), render.frameworks_table([FRAMEWORK])])
def test_listings_have_one_line_an_entry(table: render.FittedTable) -> None:
    assert text_of(lambda out: render.print_table(out, table), render.PIPE_WIDTH).count("\n") == 2
