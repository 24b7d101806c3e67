"""What `offerd local --json` prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from offerd_cli.commands import local
from offerd_cli.local_cluster import LocalCluster


def test_the_pid_and_log_are_the_leaders_also_where_that_is_not_the_first_master() -> None:
    masters = [SimpleNamespace(name=f"master-{n}", pid=n, log=Path(f"master-{n}.log")) for n in (1, 2)]
    cluster = SimpleNamespace(
        address="zk://127.0.0.1:2181/offerd", name="local", base=Path("base"), masters=masters, slaves=[],
        leader=lambda: masters[1], isolation="noop", web_address="",
    )  # fmt: skip
    said = local._document(cast(LocalCluster, cluster))
    assert (said["pid"], said["log"]) == (2, "master-2.log")
    assert [master["leads"] for master in cast(list[dict[str, object]], said["masters"])] == [False, True]
