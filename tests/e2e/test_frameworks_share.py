"""An MPI gang and a MapReduce job on one cluster: each gets its share, and unused resources of the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helpers.cli import WAIT_S, begin, offerd
from helpers.mpi import need_mpich
from offerd.operator import OperatorClient
from offerd_cli.local_cluster import LocalCluster

SLAVES, CPUS = 4, 2
HALF = SLAVES * CPUS // 2
LINES, BLOCK_BYTES = 32, 4096
LAST = LINES - (SLAVES * CPUS - HALF)
"""The tasks from here on run until both have been seen side by side: however long the gang takes to start, it finds them."""


class Sample(NamedTuple):
    """Cpus in use, by framework."""

    mpi: float
    mapreduce: float


def sampled_until(condition: Callable[[Sample], bool], client: OperatorClient, what: str) -> list[Sample]:
    """What was in use until, at last, it was so."""
    samples: list[Sample] = []
    give_up_at = time.monotonic() + 2 * WAIT_S
    while not samples or not condition(samples[-1]):
        assert time.monotonic() < give_up_at, f"never seen: {what}; last {samples[-20:]}"
        used = {each.name: each.used.millicpus / 1000 for each in client.frameworks()}
        samples.append(Sample(used.get("rigid", 0.0), used.get("mapreduce elastic", 0.0)))
        time.sleep(0.02)
    return samples


def test_a_gang_of_half_of_the_cluster_gets_its_share_beside_a_mapreduce_job(
    tmp_path: Path,
) -> None:
    need_mpich()
    texts, seen = tmp_path / "texts", tmp_path / "seen"
    texts.mkdir()
    for number in range(LINES):
        (texts / f"{number:02d}").write_text(f"{number:02d}\n".ljust(BLOCK_BYTES))
    with LocalCluster(SLAVES, cpus=str(CPUS), mem="1G", isolation="noop") as cluster:
        waits = f"read n; sleep 1; until [ $n -lt {LAST} ] || [ -e {seen} ]; do sleep 0.05; done; echo $n"
        elastic = begin(
            cluster, "mapreduce", "--name", "elastic", "--mapper", waits, "--reducer", "cat",
            "--input", str(texts), "--output", str(tmp_path / "out"), "--mem", "64M", "--time-limit", "60s",
            "--no-speculation", "--block-size", str(BLOCK_BYTES) + "B",
        )  # fmt: skip
        with cluster.ask() as client:
            # The gang comes when the other one has more than its half.
            sampled_until(lambda sample: sample.mapreduce > HALF, client, "MapReduce on more than half")
            rigid = begin(
                cluster, "mpi", "--name", "rigid", "-n", str(HALF), "--timeout", "50s", "--hold", "3s", "--",
                "sh", "-c", f"until [ -e {seen} ]; do sleep 0.05; done",
            )  # fmt: skip
            samples = sampled_until(
                lambda sample: sample == (HALF, SLAVES * CPUS - HALF), client, "each with its half"
            )
            seen.touch()
        # A look may fall between the launches of a gang's tasks; it never has more than it asked for.
        assert max(sample.mpi for sample in samples) == HALF
        for process in (rigid, elastic):
            _, complaints = process.communicate(timeout=100)
            assert process.returncode == 0, complaints
        assert offerd(cluster, "status").returncode == 0
    result = "".join(sorted(path.read_text() for path in (tmp_path / "out").glob("part-*")))
    assert sorted(result.split()) == [f"{number:02d}" for number in range(LINES)]
