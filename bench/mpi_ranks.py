"""MPI jobs: how soon all ranks have left MPI_Init, and how long a small message takes, beside plain `mpiexec`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from figures import Bound, Findings, Row, Samples, beside
from machine import ROOT
from offerd.errors import OfferdError
from offerd.operator_messages import Waiting
from offerd.resources import Resources
from offerd_cli.local_cluster import LocalCluster
from offerd_frameworks.mpi.core.job import Job, Outcome
from offerd_frameworks.mpi.framework import MpiFramework
from offerd_frameworks.mpi.hydra import find_hydra
from offerd_frameworks.mpi.output import Piece

RANKS = 8
SLAVES = 4
DEADLINE_S = 60
START_RATIO, LATENCY_RATIO = 1.5, 1.1
NEED = Resources.of(cpus="0.5", mem="32M")


class Heard:
    """Keeps what rank 0 of the running job has written."""

    def __init__(self) -> None:
        self.text = b""
        self.ends: SimpleQueue[Outcome] = SimpleQueue()

    def started(self, job_id: str, hosts: tuple[str, ...]) -> None:
        self.text = b""

    def wrote(self, job_id: str, pieces: Iterable[Piece], *, is_stderr: bool) -> None:
        self.text += b"".join(piece.data for piece in pieces)

    def noted(self, job_id: str, text: str) -> None:
        """There is no person to show it to."""

    def waits(self, job_id: str, waiting: Waiting) -> None:
        """The same."""

    def ended(self, job_id: str, outcome: Outcome) -> None:
        self.ends.put(outcome)

    def broken(self) -> None:
        self.ends.put(Outcome(1, "the framework has ended"))


class Cluster:
    """Runs jobs on a cluster, by a framework that stays registered or by the command."""

    def __init__(self, local: LocalCluster, framework: MpiFramework, heard: Heard) -> None:
        self._local = local
        self._framework = framework
        self._heard = heard
        self._number = 0

    def run(self, ranks: int, *argv: str, per_slave: int | None = None) -> str:
        """Submit a job to the registered framework; returns what rank 0 printed."""
        self._number += 1
        need = Job(f"bench-{self._number}", argv, ranks, NEED, per_slave, time_limit_s=DEADLINE_S)
        self._framework.submit(need)
        outcome = self._heard.ends.get(timeout=DEADLINE_S)
        if outcome.reason:
            raise OfferdError(outcome.reason)
        return self._heard.text.decode()

    def command(self, ranks: int, *argv: str) -> str:
        """Run `offerd mpi` from its very start; returns what rank 0 printed."""
        words = ["mpi", "-n", str(ranks), "--cpus", "0.5", "--timeout", "60s", "--no-label", "--", *argv]
        environment = {**os.environ, "OFFERD_MASTER": self._local.address}
        return _output([sys.executable, "-m", "offerd_cli.main", *words], environment)


@contextmanager
def cluster() -> Iterator[Cluster]:
    with LocalCluster(SLAVES, cpus="2", mem="1G") as local:
        heard = Heard()
        framework = MpiFramework(heard, local.address, name="bench")
        framework.start()
        try:
            yield Cluster(local, framework, heard)
        finally:
            framework.close()


def measure(quick: bool) -> Findings:
    runs = 5 if quick else 9
    hydra = find_hydra()
    with tempfile.TemporaryDirectory(prefix="offerd-bench-") as folder:
        init = _compile(Path(__file__).with_name("mpi_init.c"), folder)
        pingpong = _compile(ROOT / "examples/mpi/pingpong.c", folder)
        with cluster() as ours:
            plain, job, command = [], [], []
            ours.run(RANKS, init)
            for _ in range(runs):
                plain.append(_until(lambda: _output([hydra, "-n", str(RANKS), init])))
                job.append(_until(lambda: ours.run(RANKS, init)))
                command.append(_until(lambda: ours.command(RANKS, init)))
            latencies = [_latencies(ours, hydra, pingpong, runs, is_spread) for is_spread in (False, True)]
    findings = Findings()
    start = Bound(START_RATIO, at_least=False, of_ratio=True)
    what = "submit to MPI_Init done"
    add = findings.rows.append
    name = "mpiexec"
    add(_row(f"{RANKS} ranks, {what}, framework registered", "ms", job, plain, name, start))
    add(_row(f"{RANKS} ranks, start of `offerd mpi` to MPI_Init done", "ms", command, plain, name, None))
    latency = Bound(LATENCY_RATIO, at_least=False, of_ratio=True)
    for where, name, (our, their) in zip(
        ("one slave", "two slaves"), ("mpiexec", "mpiexec, two hosts"), latencies, strict=True
    ):
        add(_row(f"ping-pong of 8 bytes, ranks on {where}", "us", our, their, name, latency))
    return findings


def _row(
    measure: str, unit: str, ours: list[float], theirs: list[float], name: str, bound: Bound | None
) -> Row:
    return Row(measure, unit, Samples.of(ours), Samples.of(theirs), name, beside(ours, theirs), bound)


def _latencies(
    ours: Cluster, hydra: str, pingpong: str, runs: int, is_spread: bool
) -> tuple[list[float], list[float]]:
    """In microseconds. The two hosts of mpiexec are one: MPICH then uses its transport and not its own shared memory."""
    hosts = ("-launcher", "fork", "-hosts", "one:1,two:1") if is_spread else ()
    our, their = [], []
    for _ in range(runs):
        their.append(_us(_output([hydra, *hosts, "-n", "2", pingpong])))
        our.append(_us(ours.run(2, pingpong, per_slave=1 if is_spread else None)))
    return our, their


def _until(print_time: Callable[[], str]) -> float:
    """Milliseconds from now to the time that the program prints."""
    began = time.monotonic()
    return (float(print_time()) - began) * 1e3


def _us(line: str) -> float:
    return float(line.split()[-2])


def _output(words: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, stdout=subprocess.PIPE, env=environment, timeout=DEADLINE_S, check=True)
    return done.stdout.decode()


def _compile(source: Path, folder: str) -> str:
    program = str(Path(folder, source.stem))
    subprocess.run(["mpicc", "-O2", str(source), "-o", program], check=True, timeout=DEADLINE_S)
    return program
