"""MapReduce and MPI under real limits: cgroups for each map, each reduce and each slave's ranks, and the results right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.kernel_bed import KernelBed, kernel_bed, leaves, wait_until
from helpers.mpi import EXAMPLES, compile_mpi, need_mpich
from helpers.texts import generate
from offerd_frameworks import mapreduce

LIMIT_S = 240.0
MIB = 1 << 20
OWN_LIMIT = "$(cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max)"


@pytest.fixture(scope="module")
def bed() -> Iterator[KernelBed]:
    with kernel_bed(cpus=4, mem="1G") as made:
        yield made


def test_a_word_count_runs_in_cgroups_of_its_tasks(bed: KernelBed, tmp_path: Path) -> None:
    text = generate(tmp_path / "text", MIB, vocabulary=500)
    job = mapreduce.Job(
        (str(text),),
        str(tmp_path / "out"),
        mapper=f"echo limit={OWN_LIMIT}; tr -s '[:space:]' '\\n'",
        reducer="uniq -c",
        reduces=2,
        mem="48M",
        block_bytes=MIB // 4 + 1000,
    )
    with mapreduce.MapReduce(bed.address) as framework:
        framework.submit(job).result(LIMIT_S)
    lines = [line for part in (tmp_path / "out").glob("part-*") for line in part.read_text().splitlines()]
    found = {word: int(number) for number, word in (line.split() for line in lines)}
    assert found.pop(f"limit={48 * MIB}") >= 4  # each map says it once
    assert found == Counter(text.read_text().split())
    wait_until(lambda: leaves() == [], "no task is left")


def test_the_ranks_of_an_mpi_job_have_their_limits_and_add_up(bed: KernelBed, tmp_path: Path) -> None:
    need_mpich()
    program = compile_mpi(EXAMPLES / "allreduce.c", tmp_path)
    rank = f"echo limit={OWN_LIMIT}; exec {program}"
    words = [sys.executable, "-m", "offerd_cli.main", "mpi", "-n", "3", "--cpus", "0.5", "--mem", "64M"]
    done = subprocess.run(
        [*words, "--timeout", f"{LIMIT_S:.0f}s", "--", "sh", "-c", rank],
        env={**os.environ, "OFFERD_MASTER": bed.address, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The ranks of one slave are one task, started by one proxy of MPICH.
    assert len(re.findall(rf"limit={3 * 64 * MIB}\b", done.stdout)) == 3
    assert "allreduce over 3 ranks: 0 wrong of 3000" in done.stdout
    wait_until(lambda: leaves() == [], "no task is left")
