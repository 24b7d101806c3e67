"""Files of ended tasks in a running executor are removed when they were fetched, or after some time."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import offerd
from helpers.cli import begin, processes_with, wait_until
from offerd_cli.local_cluster import LocalCluster

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, cpus="4", mem="2G") as running:
        yield running


def left(cluster: LocalCluster, place: str) -> list[Path]:
    work_dir = cluster.slaves[0].work_dir
    assert work_dir is not None
    return sorted(work_dir.glob(f"containers/*/sandbox/{place}/*"))


def test_results_are_removed_as_soon_as_they_have_been_fetched(cluster: LocalCluster) -> None:
    with offerd.ClusterExecutor(cluster.address, cpus=1) as executor:
        futures = [executor.submit(bytes, MEGABYTE + n) for n in range(12)]
        assert [len(future.result(60)) for future in futures] == [MEGABYTE + n for n in range(12)]
        assert executor.submit(os.getpid).result(30) > 0
        wait_until(lambda: not left(cluster, "results"), "results that were fetched to be removed")


def test_fetched_outputs_are_removed_and_other_leftovers_by_age(
    cluster: LocalCluster,
) -> None:
    number = f"600.{uuid.uuid4().int % 10**12:012d}"
    script = f"head -c 9000 /dev/zero; [ $1 = big ] || : > mine; [ $1 != last ] || exec sleep {number}"
    running = begin(
        cluster, "map", "--timeout", "600s", "--", "sh", "-c", script, "x", ":::", "big", "b", "last"
    )
    try:
        wait_until(lambda: processes_with(number), "the last one to run")
        # `big` has left only its output; `b` has also left a file, which stays.
        wait_until(lambda: len(left(cluster, "tasks")) == 2, "a directory to go with the output in it")
        slave = cluster.slaves[0]
        slave.words += ["--gc-delay", "1s"]
        cluster.restart_slave(0)
        cluster.wait_for_slaves(1)
        wait_until(lambda: len(left(cluster, "tasks")) == 1, "what an ended task has left to be collected")
        assert left(cluster, "tasks")[0].name.endswith(".3")
        assert processes_with(number)
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
