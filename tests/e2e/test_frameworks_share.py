"""An MPI gang and a MapReduce job on one cluster: each gets its share, and what the other leaves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from helpers.cli import begin, offerd
from helpers.mpi import need_mpich
from offerd_cli.local_cluster import LocalCluster

SLAVES, CPUS = 4, 2
HALF = SLAVES * CPUS // 2
LINES, BLOCK_BYTES = 32, 4096


class Sample(NamedTuple):
    """Cpus in use, by framework."""

    mpi: float
    mapreduce: float


def test_a_gang_of_half_of_the_cluster_gets_its_half_beside_a_mapreduce_job_which_has_the_rest(
    tmp_path: Path,
) -> None:
    need_mpich()
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(LINES):
        (texts / f"{number:02d}").write_text(f"{number:02d}\n".ljust(BLOCK_BYTES))
    with LocalCluster(SLAVES, cpus=str(CPUS), mem="1G", isolation="noop") as cluster:
        elastic = begin(
            cluster, "mapreduce", "--name", "elastic", "--mapper", "sleep 1; cat", "--reducer", "cat",
            "--input", str(texts), "--output", str(tmp_path / "out"), "--mem", "64M", "--time-limit", "30s",
            "--no-speculation", "--block-size", str(BLOCK_BYTES) + "B",
        )  # fmt: skip
        samples: list[Sample] = []
        rigid = None
        with cluster.ask() as client:
            while elastic.poll() is None:
                used = {each.name: each.used.millicpus / 1000 for each in client.frameworks()}
                samples.append(Sample(used.get("rigid", 0.0), used.get("mapreduce elastic", 0.0)))
                # The gang comes when the other one has more than its half.
                if rigid is None and samples[-1].mapreduce > HALF:
                    rigid = begin(
                        cluster, "mpi", "--name", "rigid", "-n", str(HALF), "--per-slave", "1", "--timeout", "50s",
                        "--hold", "3s", "--", "sleep", "1.5",
                    )  # fmt: skip
                time.sleep(0.02)
        _, complaints = elastic.communicate(timeout=60)
        assert elastic.returncode == 0, complaints
        assert rigid is not None, "the MapReduce job never had more than half of the cluster"
        _, complaints = rigid.communicate(timeout=60)
        assert rigid.returncode == 0, complaints
        assert offerd(cluster, "status").returncode == 0
    both = [sample for sample in samples if sample.mpi]
    assert {sample.mpi for sample in both} == {HALF}
    assert 0 < max(sample.mapreduce for sample in both) <= SLAVES * CPUS - HALF
    result = "".join(sorted(path.read_text() for path in (tmp_path / "out").glob("part-*")))
    assert sorted(result.split()) == [f"{number:02d}" for number in range(LINES)]
