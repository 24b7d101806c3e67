"""What browsers are sent: first everything, then several times a second what has changed, as one JSON text for all of them.

A text has a number. Whoever has missed some goes on from the last number it has, as long as the texts after it are kept; else
everything is sent again. Tasks are many and short: at most `MAX_TASKS` of them are in one text, with how many were left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from offerd.ids import FrameworkID, SlaveID
from offerd.protocol.change_messages import EndedTask, TaskNow
from offerd_web.core.view import ClusterView, Delta

MAX_TASKS = 500
MAX_FIRST_TASKS = 5000
MAX_KEPT = 256
MAX_KEPT_BYTES = 8 << 20
RECENT_S = 600.0
"""Ended tasks of so long ago are in the first text."""

Describe = Callable[[set[SlaveID] | None, set[FrameworkID] | None], dict[str, Any]]
"""Makes the parts of a text about the cluster, these slaves and these frameworks; None: all."""


class Bar(NamedTuple):
    """A task as a bar in its slave's lane. Times are Unix times in seconds."""

    framework_id: str
    task_id: str
    slave_id: str
    launched_at: float
    running_since: float | None
    ended_at: float | None
    state: str
    is_long: bool
    millicpus: int
    reason: str
    """Why it ended; empty if it ended by itself, or has not."""


class Text(NamedTuple):
    """One text, for all who are to be sent it."""

    number: int
    data: bytes


class LiveFeed:
    """The texts for the callers that see the same. `sees`: whether they see this framework."""

    def __init__(self, view: ClusterView, sees: Callable[[str], bool], describe: Describe) -> None:
        self._view = view
        self._sees = sees
        self._describe = describe
        self._number = 0
        self._kept: deque[Text] = deque()
        self._kept_bytes = 0
        self._is_reset = False
        self._slaves: set[SlaveID] = set()
        self._frameworks: set[FrameworkID] = set()
        self._bars: dict[tuple[str, str, float], Bar] = {}
        self._left_out = 0
        self._gone: list[tuple[str, str, float]] = []
        self._shown: set[tuple[str, str, float]] = set()
        """Open tasks that were sent, by their launch on the master's clock."""
        self._recent: deque[Bar] = deque(maxlen=MAX_FIRST_TASKS)
        self._first: Text | None = None
        self._said_following = ""

    @property
    def number(self) -> int:
        """That of the latest text."""
        return self._number

    def take(self, delta: Delta) -> None:
        """An answer of the master has changed this."""
        self._is_reset |= delta.is_reset
        self._slaves |= delta.slaves
        self._frameworks |= delta.frameworks
        for task in delta.tasks:
            if self._sees(task.framework_id):
                self._take_open(task)
        # What they hold and how many tasks they have changes with each task.
        changed: list[TaskNow | EndedTask] = [*delta.tasks, *delta.ended]
        self._slaves.update([task.slave_id for task in changed])
        self._frameworks.update([task.framework_id for task in changed])
        ended = delta.ended
        if not self._shown and len(self._bars) >= MAX_TASKS:
            # Thousands a second may end: none of them is looked at in vain.
            self._left_out += sum(self._sees(record.framework_id) for record in ended)
            ended = []
        for record in ended:
            if self._sees(record.framework_id):
                self._take_ended(record)
        for key in delta.gone:
            if key in self._shown:
                self._shown.remove(key)
                self._bars.pop(key, None)  # in one text, a bar must not open and be gone
                self._gone.append((key[0], key[1], self._view.wall(key[2])))

    def _take_open(self, task: TaskNow) -> None:
        key = task.framework_id, task.task_id, task.launched_at
        if key in self._shown or len(self._bars) < MAX_TASKS:
            self._shown.add(key)
            self._bars[key] = self._open_bar(task)
        else:
            self._left_out += 1

    def _take_ended(self, task: EndedTask) -> None:
        """The end of a bar that is shown as open is always sent."""
        key = task.framework_id, task.task_id, task.launched_at
        if key in self._shown:
            self._shown.remove(key)
        elif len(self._bars) >= MAX_TASKS:
            self._left_out += 1
            return
        bar = self._bars[key] = self._ended_bar(task)
        self._recent.append(bar)

    def flush(self, now: float, following: str) -> bool:
        """Make a text of what has changed since the last, if anything has; returns whether there is one. `following`: how the
        gateway follows the master, which is news when it changes.
        """
        is_news = following != self._said_following
        if not (
            self._is_reset
            or self._slaves
            or self._frameworks
            or self._bars
            or self._gone
            or self._left_out
            or is_news
        ):
            return False
        self._said_following = following
        self._number += 1
        if self._is_reset:
            self._shown.clear()
            # What is gone is not named in it, so whoever gets it must begin anew.
            text = self._everything(now)
            self._kept.clear()
            self._kept_bytes = 0
        else:
            parts = self._describe(self._slaves, self._frameworks)
            parts["gone_bars"] = self._gone
            text = self._text(now, parts, list(self._bars.values()), self._left_out, is_first=False)
        self._keep(text)
        self._first = None
        self._is_reset, self._left_out = False, 0
        self._slaves, self._frameworks, self._bars, self._gone = set(), set(), {}, []
        return True

    def first(self, now: float) -> Text:
        """Everything, as of the latest number."""
        if self._first is None:
            self._first = self._everything(now)
        return self._first

    def after(self, number: int) -> list[Text] | None:
        """The texts after this number; None: some of them are not kept any more, or the number is none of ours."""
        if number == self._number:
            return []
        if number > self._number or not self._kept or self._kept[0].number > number + 1:
            return None
        return [text for text in self._kept if text.number > number]

    # -- parts ----------------------------------------------------------------------------------------------------------

    def _everything(self, now: float) -> Text:
        tasks = [task for task in self._view.replica.tasks.values() if self._sees(task.framework_id)]
        left_out = max(0, len(tasks) - MAX_FIRST_TASKS)
        del tasks[MAX_FIRST_TASKS:]
        self._shown.update((task.framework_id, task.task_id, task.launched_at) for task in tasks)
        recent = [bar for bar in self._recent if bar.ended_at is not None and bar.ended_at > now - RECENT_S]
        room = MAX_FIRST_TASKS - len(tasks)
        bars = [*(recent[-room:] if room else []), *map(self._open_bar, tasks)]
        return self._text(now, self._describe(None, None), bars, left_out, is_first=True)

    def _text(
        self, now: float, parts: dict[str, Any], bars: list[Bar], left_out: int, *, is_first: bool
    ) -> Text:
        document = {
            "number": self._number,
            "now": now,
            "is_first": is_first,
            **parts,
            "bars": bars,
            "bars_left_out": left_out,
        }
        return Text(self._number, msgspec.json.encode(document))

    def _keep(self, text: Text) -> None:
        self._kept.append(text)
        self._kept_bytes += len(text.data)
        while len(self._kept) > 1 and (len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES):
            self._kept_bytes -= len(self._kept.popleft().data)

    def _open_bar(self, task: TaskNow) -> Bar:
        view = self._view
        return Bar(
            task.framework_id, task.task_id, task.slave_id, view.wall(task.launched_at),
            view.wall_or_none(task.running_since), None, task.state.value, task.is_long, task.resources.millicpus,
            "",
        )  # fmt: skip

    def _ended_bar(self, task: EndedTask) -> Bar:
        view = self._view
        info = view.replica.slave_infos.get(task.slave_id)
        limit_s = 60.0 if info is None else info.short_limit_s
        is_long = task.time_limit_s is None or task.time_limit_s > limit_s
        return Bar(
            task.framework_id, task.task_id, task.slave_id, view.wall(task.launched_at),
            view.wall_or_none(task.running_since), view.wall(task.ended_at), task.state.value, is_long,
            task.resources.millicpus, task.reason,
        )  # fmt: skip
