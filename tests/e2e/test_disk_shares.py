"""Tasks that fill the disk anywhere in their sandbox are ended, and others go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from helpers.cli import begin, listing, offerd
from offerd_cli.local_cluster import LocalCluster

SHARE_MIB = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    options = ("--disk-per-task", f"{SHARE_MIB}M")
    with LocalCluster(1, cpus="4", mem="1G", slave_options=options) as running:
        yield running


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            f"head -c {2 * SHARE_MIB}M /dev/zero > large",
            b"its files take more of the disk than the 8M that they may",
        ),
        (
            f"head -c {8 * SHARE_MIB}M /dev/zero > ../../beside",
            b"the files of its executor and tasks take more of the disk",
        ),
        ("i=0; while [ $i -lt 150 ]; do mkdir d; cd d; i=$((i+1)); done", b"more than 100 directories deep"),
    ],
    ids=["in its directory", "beside it", "deep below it"],
)
def test_a_task_that_takes_more_than_its_share_fails_for_it_and_others_go_on(
    cluster: LocalCluster, script: str, says: bytes
) -> None:
    neighbour = begin(cluster, "run", "--", "sh", "-c", "echo here; exec sleep 600.25")
    try:
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == b"here\n"
        done = offerd(cluster, "run", "--name", "greedy", "--", "sh", "-c", f"{script}; exec sleep 600")
        assert done.returncode == 1
        assert b"failed, LIMIT_EXCEEDED: " in done.stderr
        assert says in done.stderr
        ended = [
            task for task in listing(cluster, "tasks", "--all")["tasks"] if task["framework_name"] == "greedy"
        ]
        assert {(task["state"], task["reason"]) for task in ended} == {("TASK_FAILED", "LIMIT_EXCEEDED")}
        assert neighbour.poll() is None
    finally:
        neighbour.send_signal(signal.SIGINT)
        neighbour.communicate(timeout=30)
