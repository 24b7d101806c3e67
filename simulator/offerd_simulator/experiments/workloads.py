"""The four workloads of the paper's macrobenchmark (section 6.1), as far as it describes them, and our assumptions.

From the paper: the bins of the Facebook mix, their numbers of maps and reduces, the arrivals, the sizes and orders of the other
workloads, and how long each job takes on a static partition of 24 nodes (96 slots). It does not give the durations of tasks.
They are chosen so that the jobs take the paper's times **on the static partition**, at seed 1. What happens on the shared
cluster is then a prediction. Memory per task, the shape of an ALS job and the submission times of MPI jobs are also assumed;
see below.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from offerd.resources import Resources
from offerd_simulator.frameworks.gangs import Gang
from offerd_simulator.frameworks.jobs import Job, Stage

HADOOP_TASK = Resources.of(cpus=1, mem="3G")
SPARK_TASK = Resources.of(cpus=1, mem="3584M")
MPI_TASK = Resources.of(cpus=1, mem="1536M")
SETUP_S = 8.0
"""Time of a Hadoop or Spark job before its first task, whatever slots it has."""
SPREAD = 0.2


@dataclass(frozen=True, slots=True)
class Bin:
    """A line of the paper's Table 3; `map_s` and `reduce_s` are assumed."""

    number: int
    kind: str
    maps: int
    reduces: int
    jobs: int
    static_s: float
    speedup: float
    map_s: float
    reduce_s: float

    def job(self, shrink: int) -> Job:
        stages = [Stage(max(1, self.maps // shrink), self.map_s, HADOOP_TASK, SPREAD)]
        if self.reduces:
            stages.append(Stage(max(1, self.reduces // shrink), self.reduce_s, HADOOP_TASK, SPREAD))
        return Job(f"bin {self.number}", stages, SETUP_S)


BINS = (
    Bin(1, "selection", 1, 0, 38, 24, 0.84, 15.0, 0.0),
    Bin(2, "text search", 2, 0, 18, 31, 0.90, 19.4, 0.0),
    Bin(3, "aggregation", 10, 2, 14, 82, 0.94, 33.0, 23.5),
    Bin(4, "selection", 50, 0, 12, 65, 1.40, 26.7, 0.0),
    Bin(5, "aggregation", 100, 10, 6, 192, 1.26, 40.0, 40.0),
    Bin(6, "selection", 200, 0, 6, 136, 1.71, 17.1, 0.0),
    Bin(7, "text search", 400, 0, 4, 137, 2.14, 11.9, 0.0),
    Bin(8, "join", 400, 30, 2, 662, 1.35, 40.0, 200.0),
)
FACEBOOK_INTERVAL_S = 14.0

LARGE_TASKS, LARGE_JOBS, LARGE_STATIC_S = 2400, 10, 314.0
LARGE_TASK_S = 11.9

SPARK_JOBS, SPARK_STATIC_S, SPARK_PAUSE_S = 5, 337.0, 120.0
SPARK_ITERATIONS, SPARK_TASKS = 15, 144
"""Assumed: each iteration is 144 tasks, one and a half for each slot of a static partition."""
SPARK_TASK_S = 9.35

MPI_SIZE, MPI_SMALL_S, MPI_LARGE_S = 24, 261.0, 822.0
MPI_ORDER = "SLSSLSSS"
MPI_INTERVAL_S = 150.0
"""Assumed so that at 350 s two jobs run, the eighth of the cluster that the paper's plot shows then."""


def facebook_jobs(source: random.Random) -> list[tuple[float, Bin]]:
    """A hundred jobs in random order at random times, every 14 s on average."""
    order = [kind for kind in BINS for _ in range(kind.jobs)]
    source.shuffle(order)
    when = 0.0
    jobs = []
    for kind in order:
        jobs.append((when, kind))
        when += source.expovariate(1 / FACEBOOK_INTERVAL_S)
    return jobs


def large_hadoop_job(number: int, shrink: int) -> Job:
    return Job(
        f"text search {number}", [Stage(LARGE_TASKS // shrink, LARGE_TASK_S, HADOOP_TASK, SPREAD)], SETUP_S
    )


def spark_job(number: int, shrink: int) -> Job:
    iteration = Stage(SPARK_TASKS // shrink, SPARK_TASK_S, SPARK_TASK, SPREAD)
    return Job(f"ALS {number}", [iteration] * SPARK_ITERATIONS, SETUP_S)


def mpi_jobs(shrink: int) -> list[tuple[float, Gang]]:
    """Six small and two large Tachyon jobs, and when each is submitted."""
    jobs = []
    for i, letter in enumerate(MPI_ORDER):
        name, work_s = ("large", MPI_LARGE_S) if letter == "L" else ("small", MPI_SMALL_S)
        jobs.append((i * MPI_INTERVAL_S, Gang(name, MPI_SIZE // shrink, work_s, MPI_TASK)))
    return jobs
