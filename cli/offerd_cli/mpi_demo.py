"""The demo's MPI job: heat in a plate, computed by ranks beside the other frameworks, and checked against one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from offerd.errors import OfferdError
from offerd_cli.local_cluster import OFFERD, LocalCluster

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "mpi" / "heat.c"
MOST_RANKS = 3
POINTS, STEPS = "400", "300"
NAME = "heat"
DEADLINE_S = 60.0
TURN_S = 0.02


class Heat(NamedTuple):
    """A running job."""

    program: str
    job: subprocess.Popen[bytes]

    def check(self) -> tuple[str, bool]:
        """Wait for the end: what it printed, and whether one process prints the same. Raises `OfferdError`."""
        said, _ = self.job.communicate(timeout=DEADLINE_S)
        if self.job.returncode != 0:
            raise OfferdError(f"offerd mpi ended with status {self.job.returncode}")
        alone = subprocess.run(
            [self.program, POINTS, STEPS], stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True
        )
        return said.decode().strip(), said == alone.stdout


def missing() -> str:
    """Why this host cannot run the job, with the command that helps; empty if it can."""
    if shutil.which("mpiexec.hydra") is None or shutil.which("mpicc") is None:
        return "MPICH is not installed: apt-get install mpich libmpich-dev gcc"
    return "" if SOURCE.exists() else "its program is only in a checkout"


def options(cluster: LocalCluster) -> list[str]:
    """The options: half of each of three slaves, or of as many as there are."""
    return ["-n", str(min(MOST_RANKS, len(cluster.slaves))), "--per-slave", "1", "--timeout", "50s"]


def begin(cluster: LocalCluster) -> Heat:
    """Compile and start the job; returns when all ranks run. Raises `OfferdError`."""
    program = str(cluster.base / "heat")
    try:
        subprocess.run(["mpicc", "-O2", str(SOURCE), "-o", program], check=True, timeout=DEADLINE_S)
    except subprocess.CalledProcessError as error:
        raise OfferdError(f"mpicc ended with status {error.returncode}") from None
    words = ["mpi", *options(cluster), "--no-label", "--name", NAME]
    job = subprocess.Popen(
        [*OFFERD, *words, "--", program, POINTS, STEPS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "OFFERD_MASTER": cluster.address},
    )
    with cluster.ask() as client:
        while job.poll() is None and not any(
            each.name == NAME and each.used.millicpus for each in client.frameworks()
        ):
            time.sleep(TURN_S)
    return Heat(program, job)
