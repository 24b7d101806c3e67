"""The state of jobs: what is to be done, what was tried, and the results. Plain data; `planner` changes it."""

from __future__ import annotations

import enum
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from offerd import Resources
from offerd_frameworks.mapreduce.delay import Delay
from offerd_frameworks.mapreduce.splits import Split


class Kind(enum.Enum):
    """A map or a reduce; the value is the letter in task ids."""

    MAP = "m"
    REDUCE = "r"


class Phase(enum.Enum):
    """The phase that a job is in."""

    MAP = "map"
    REDUCE = "reduce"  # all maps are done, but one may be lost and run again
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


@dataclass(slots=True)
class Output:
    """What a finished attempt left, and where: files of `task_id` in the container's sandbox."""

    task_id: str
    slave_id: str
    address: str
    container_id: str
    report: dict[str, Any]

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self.report.get("output_bytes", 0))

    @property
    def sha256(self) -> str:
        """The digest of a result. (What reduces fetch is verified by the digests in the index.)"""
        return str(self.report.get("output_sha256", ""))


@dataclass(slots=True)
class Attempt:
    """One task on the cluster. `started_s` is None until we know that it runs."""

    task_id: str
    number: int
    work: Work
    slave_id: str
    hostname: str
    address: str
    time_limit_s: float
    launched_s: float
    is_local: bool | None  # None: no slave is nearer than another
    is_copy: bool = False  # of a slow task
    started_s: float | None = None
    container_id: str = ""
    key: str = ""  # seals its report


@dataclass(slots=True, eq=False)
class Work:
    """One map or reduce, until it is done, with its attempts."""

    kind: Kind
    index: int
    split: Split | None = None
    running: dict[str, Attempt] = field(default_factory=dict)
    launches: int = 0
    failures: int = 0
    losses: int = 0
    timeouts: int = 0
    unfetched: int = 0  # how often its input, or its part of the output, could not be fetched
    failed_on: dict[str, float] = field(default_factory=dict)  # slave -> time
    output: Output | None = None
    is_saved: bool = False  # its output is saved as a part of the job's

    @property
    def is_waiting(self) -> bool:
        return self.output is None and not self.running and not self.is_saved

    @property
    def local_to(self) -> frozenset[str]:
        """The slaves where it reads its input in place; empty if there are none, or no slave is nearer than another."""
        return self.split.slave_ids if self.split is not None else frozenset()


@dataclass(frozen=True, slots=True)
class Rules:
    """A job's rules for placing and retrying its work."""

    resources: Resources
    reduces: int
    delay_s: float = 5.0
    max_attempts: int = 4
    speculate: bool = True
    time_limit_s: float | None = None
    fields_decide: bool = False
    """Keys begin with the number of the reduce that gets them."""


@dataclass(slots=True, eq=False)
class JobState:
    """One job in progress."""

    job_id: str
    rules: Rules
    number: int  # counts jobs as they are submitted
    submitted_s: float
    maps: list[Work]
    reduces: list[Work]
    delay: Delay
    phase: Phase = Phase.MAP
    boundaries: list[bytes] | None = None
    why: str = ""  # why it failed
    ended_s: float | None = None
    counters: Counter[str] = field(default_factory=Counter)
    map_seconds: list[float] = field(default_factory=list)
    reduce_seconds: list[float] = field(default_factory=list)
    slowest: tuple[float, str, str] = (0.0, "", "")  # seconds, task, host
    first_launch_s: float | None = None
    busy_cpu_s: float = 0.0  # cpus times seconds of attempts that have ended
    waste_s: float = 0.0  # seconds of attempts whose results were not used

    @property
    def running(self) -> int:
        """How many tasks it has on the cluster: fairness counts these."""
        return sum(len(work.running) for work in self.works())

    def works(self) -> Iterator[Work]:
        yield from self.maps
        yield from self.reduces

    @property
    def maps_done(self) -> bool:
        return all(work.output is not None for work in self.maps)

    def open_works(self) -> list[Work]:
        """The work that may be launched now, according to the order of the phases."""
        if self.phase.is_over:
            return []
        return self.reduces if self.maps_done else self.maps

    def seconds(self, kind: Kind) -> list[float]:
        return self.map_seconds if kind is Kind.MAP else self.reduce_seconds

    def median_s(self, kind: Kind) -> float | None:
        """The median of finished attempts, once half of the work of this kind is done; None before."""
        done = self.seconds(kind)
        works = self.maps if kind is Kind.MAP else self.reduces
        return statistics.median(done) if len(done) * 2 >= len(works) and done else None

    def output_bytes(self) -> int:
        """The output of all maps."""
        return sum(work.output.size for work in self.maps if work.output is not None)
