"""The gateway's history: what a task costs, in a file that grows and in one that is full, and how fast it is read.

The costs are CPU time of the writing thread. A full run fills a file of the default size, 1 GiB.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from figures import Bound, Findings, Row, Samples
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import TaskUsage
from offerd.protocol.change_messages import EndedTask
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.core.task_filter import TaskFilter
from offerd_web.history.batch import Batch, FrameworkNames
from offerd_web.history.bounds import HistorySettings
from offerd_web.history.store import History
from offerd_web.history.writer import Writer

TASK_US = 25.0
RATE = 10_000
"""Tasks that end in a second."""
IN_A_BATCH, IN_A_WRITE = 1000, 3
NOON = 1.75e9
FRAMEWORKS = [FrameworkID(f"F-19a2b3c4d5e-{number}@user{number % 20}") for number in range(100)]
SLAVES = [SlaveID(f"S-19a2b3c4d5e-{number}") for number in range(1000)]
NAMES = {
    each: FrameworkNames(f"wordcount-{number}", f"role{number % 10}")
    for number, each in enumerate(FRAMEWORKS)
}
HOSTNAMES = {each: f"node{number}.cluster" for number, each in enumerate(SLAVES)}
NEED = Resources.of(cpus=1, mem="512M")


def measure(quick: bool) -> Findings:
    max_bytes = (64 << 20) if quick else (1 << 30)
    findings = Findings()
    with tempfile.TemporaryDirectory() as directory:
        history = History(Path(directory) / "history.db", HistorySettings(max_bytes=max_bytes))
        coming = batches()
        growing = list(filled(history, coming, max_bytes))
        full = [written(history, coming) for _ in range(len(growing) // 4)]
        for name, found in (("grows", growing), ("is full", full)):
            findings.rows.append(
                Row(
                    f"history: CPU for a task, the file {name}",
                    "us",
                    Samples.of(cpu_s / IN_A_BATCH / IN_A_WRITE * 1e6 for cpu_s, _ in found),
                    bound=Bound(TASK_US, at_least=False),
                )
            )
            findings.rows.append(
                Row(
                    f"history: a write of {IN_A_BATCH * IN_A_WRITE} tasks, the file {name}",
                    "ms",
                    Samples.of(wall_s * 1000 for _, wall_s in found),
                )
            )
        findings.rows += list(readings(history))
        findings.rows.append(beside_a_busy_loop(history, coming, 2 if quick else 5))
        history.close()
    return findings


def batches() -> Iterator[Batch]:
    """Answers of a master, each with the ends of a tenth of a second."""
    for first in count(0, IN_A_BATCH):
        tasks = []
        for number in range(first, first + IN_A_BATCH):
            at = number / RATE
            tasks.append(
                EndedTask(
                    TaskID(f"map-{number}"), FRAMEWORKS[number % 100], SLAVES[number * 7 % 1000], ExecutorID("command"),
                    TaskState.FINISHED, f"map-{number}", NEED, 60.0, "", "", 0, at, at + 0.05, at + 1.0,
                    ContainerID(f"C-19a2b3c4d5e-{number % 5000:08x}"), True, None, f"user{number % 20}",
                    TaskUsage(0.7, 300 << 20),
                )
            )  # fmt: skip
        ended = first + IN_A_BATCH
        yield Batch(
            at=NOON + ended / RATE + 1,
            master_id="M-19a2b3c4d5e",
            clock_offset_s=NOON,
            origin="M-19a2b3c4d5e/1",
            ended_after=ended,
            ended=tuple(tasks),
            names=NAMES,
            hostnames=HOSTNAMES,
        )


def filled(history: History, coming: Iterator[Batch], max_bytes: int) -> Iterator[tuple[float, float]]:
    """Write until the file is full; yields CPU and wall seconds of each write."""
    while history.path.stat().st_size < max_bytes * 7 // 8:
        yield written(history, coming)


def written(history: History, coming: Iterator[Batch]) -> tuple[float, float]:
    """CPU and wall seconds of one write."""
    some = [next(coming) for _ in range(IN_A_WRITE)]
    cpu, wall = time.thread_time(), time.perf_counter()
    history.write(*some)
    return time.thread_time() - cpu, time.perf_counter() - wall


def readings(history: History) -> Iterator[Row]:
    """Of a full file."""
    one = FRAMEWORKS[7]
    questions: dict[str, Callable[[], object]] = {
        "the latest 100 tasks": lambda: history.tasks(TaskFilter()),
        "the latest 100 of an owner": lambda: history.tasks(TaskFilter(), "user7"),
        "the latest 100 of a framework": lambda: history.tasks(TaskFilter(framework=one)),
        "100 by a name that none has": lambda: history.tasks(TaskFilter(name="reduce")),
        "a report by roles": lambda: history.report(0, 1e11, "role"),
    }
    for name, ask in questions.items():
        found = []
        for _ in range(3):
            begun = time.perf_counter()
            ask()
            found.append((time.perf_counter() - begun) * 1000)
        yield Row(f"history: {name}", "ms", Samples.of(found))


def beside_a_busy_loop(history: History, coming: Iterator[Batch], seconds: int) -> Row:
    """Tasks a second through the writer's thread, beside a thread that never yields Python's lock by itself."""
    some = [next(coming) for _ in range(seconds * RATE // IN_A_BATCH)]
    has_ended = threading.Event()

    def spin() -> None:
        while not has_ended.is_set():
            sum(range(1000))

    writer, loop = Writer(history, max_waiting=10 * seconds * RATE), threading.Thread(target=spin)
    loop.start()
    for each in some:
        writer.put(each)
    begun = time.perf_counter()
    writer.start()
    writer.close()
    wall_s = time.perf_counter() - begun
    has_ended.set()
    loop.join()
    return Row(
        "history: beside a thread that always computes",
        "tasks/s",
        Samples.of([seconds * RATE / wall_s]),
        bound=Bound(RATE),
    )
