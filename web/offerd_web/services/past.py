"""The history, as routes use it: what the follower hears is written by one thread, and questions are answered in others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from offerd.core.usual_units import usual_amount
from offerd.protocol.change_messages import Changes
from offerd.workers import Workers
from offerd_web.core import shapes
from offerd_web.core.describe import resources
from offerd_web.core.live import Bar
from offerd_web.core.task_filter import TaskFilter
from offerd_web.core.view import ClusterView
from offerd_web.history.batch_maker import BatchMaker
from offerd_web.history.bounds import HistorySettings
from offerd_web.history.reading import PastTask
from offerd_web.history.store import History
from offerd_web.history.writer import Writer

T = TypeVar("T")

FILE = "history.sqlite3"
THREADS = 2
ENDED_MARK = "ended:"
"""How a place in the listing of tasks begins that is among the ended ones."""
MAX_BARS = 5000
PAGE = 1000
SHORT_LIMIT_S = 60.0
"""What slaves call short unless they say otherwise."""


class Past:
    """A gateway's history. Raises `HistoryError` if its file cannot be opened."""

    def __init__(self, directory: Path, settings: HistorySettings | None = None) -> None:
        self._path = directory / FILE
        self._history = History(self._path, settings)
        self._writer = Writer(self._history)
        self._maker = BatchMaker()
        self._workers = Workers(THREADS, "history")

    def resume(self, view: ClusterView) -> None:
        """Have the view go on where this history ends, if its master still counts as it did. Then begin to write."""
        if (cursor := self._history.cursor()) is not None:
            view.resume(cursor.origin, cursor.ended_after, cursor.clock_offset_s)
        self._writer.start()

    def take(self, view: ClusterView, changes: Changes) -> None:
        """An answer of the master, which the view has taken over."""
        self._writer.put(self._maker.batch(view, changes))

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._workers.shutdown(wait=True)
        self._writer.close()
        self._history.close()

    def figures(self) -> dict[str, Any]:
        """For metrics."""
        try:
            size = self._path.stat().st_size
        except OSError:
            size = 0
        return {
            "history_lag_s": self._writer.lag_s,
            "history_dropped": self._writer.dropped,
            "history_bytes": size,
        }

    @property
    def why_failing(self) -> str:
        """Why nothing can be written now; empty: it can."""
        return self._writer.why_failing

    # -- questions ------------------------------------------------------------------------------------------------------

    async def ask(self, question: Callable[[History], T]) -> T:
        """What this function returns; it is called in a thread. Raises what that raises: `BadInput`, `HistoryError`."""
        return await asyncio.wrap_future(self._workers.submit(question, self._history))

    async def tasks(
        self, wanted: TaskFilter, only_of: str, after: str, limit: int
    ) -> tuple[list[shapes.Task], str | None]:
        """A page, and where the next one begins: a text with `ENDED_MARK`. `after`: such a text; any other is the beginning."""
        place = after.removeprefix(ENDED_MARK) if after.startswith(ENDED_MARK) else ""
        found, following = await self.ask(lambda history: history.tasks(wanted, only_of, place, limit))
        return [described(task) for task in found], None if following is None else ENDED_MARK + following

    async def task(self, framework_id: str, task_id: str) -> shapes.Task | None:
        """The last that has ended under this id."""
        found = await self.ask(lambda history: history.task(framework_id, task_id))
        return None if found is None else described(found)

    async def bars(self, wanted: TaskFilter, only_of: str) -> tuple[list[Bar], bool]:
        """Ended tasks as bars in lanes, the latest launch first, and whether there are more than `MAX_BARS`."""

        def look(history: History) -> tuple[list[Bar], bool]:
            bars: list[Bar] = []
            place: str | None = ""
            while place is not None and len(bars) < MAX_BARS:
                found, place = history.tasks(wanted, only_of, place, PAGE)
                bars += map(_bar, found)
            return bars[:MAX_BARS], place is not None

        return await self.ask(look)


def described(task: PastTask) -> shapes.Task:
    """As the API shows it."""
    output = usage = None
    if task.stdout_bytes is not None and task.stderr_bytes is not None:
        output = shapes.TaskOutput(stdout_bytes=task.stdout_bytes, stderr_bytes=task.stderr_bytes)
    if task.cpu_s is not None and task.peak_mem_bytes is not None:
        usage = shapes.TaskUsage(cpu_s=task.cpu_s, peak_mem_bytes=task.peak_mem_bytes)
    return shapes.Task(
        task_id=task.task_id,
        framework_id=task.framework_id,
        framework_name=task.framework_name,
        slave_id=task.slave_id,
        hostname=task.hostname,
        executor_id=task.executor_id,
        name=task.name,
        state=task.state,
        resources=resources(task.resources),
        time_limit_s=task.time_limit_s,
        is_long=None,
        is_being_killed=False,
        launched_at=task.launched_at,
        running_since=task.running_since,
        ended_at=task.ended_at,
        reason=task.reason,
        message=task.message,
        exit_status=task.exit_status,
        user=task.user,
        output=output,
        usage=usage,
        has_files=bool(task.container_id),
    )


def _bar(task: PastTask) -> Bar:
    is_long = task.time_limit_s is None or task.time_limit_s > SHORT_LIMIT_S
    return Bar(
        task.framework_id, task.task_id, task.slave_id, task.launched_at, task.running_since, task.ended_at, task.state,
        is_long, task.resources.millicpus, task.reason,
    )  # fmt: skip


def usual(name: str, amount: float | None) -> float | None:
    """An average in usual units."""
    return None if amount is None else usual_amount(name, round(amount))
