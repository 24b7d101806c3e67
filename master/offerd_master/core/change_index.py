"""Which thing changed last, in numbers: what followers are answered from (`following`).

No list of events is kept. Each thing stands once, at the number of its last change, so the memory is that of the things, and
whoever asks late is answered as briefly as the cluster is now. Ends of tasks are the exception: a log of bounded length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import islice
from typing import NamedTuple

import msgspec

from offerd.ids import FrameworkID, PeerID, TaskID
from offerd.messages import FrameworkInfo
from offerd.protocol.change_messages import EndedTask, FrameworkNow
from offerd_master.core.caller import Caller


class Described(msgspec.Struct, frozen=True):
    """What a slave or framework says of itself: it changes seldom, and is sent apart from how it is."""

    what: Hashable
    """A `Slave` or `Framework`."""


class GoneTask(msgspec.Struct, frozen=True):
    """A task that is not open any more, and whose end followers do not hear of otherwise."""

    framework_id: FrameworkID
    task_id: TaskID
    launched_at: float


MAX_GONE = 10_000
"""Things that are there no more and whose going is remembered."""


class ChangeIndex:
    """Counts nothing while nobody follows. `generation` counts the countings.

    Numbers are given when somebody is to be answered (`settle`), and not at each change: a short task that comes and goes in
    between costs an entry that is made and removed.
    """

    __slots__ = (
        "_ended", "_fresh", "_gone", "_max_ended", "_numbers", "ended_count", "floor", "followers", "generation", "is_on",
        "number",
    )  # fmt: skip

    def __init__(self, max_ended: int) -> None:
        self.is_on = False
        self.generation = 0
        self.number = 0
        """That of the latest change, as of the last `settle`."""
        self.floor = 0
        """Whoever has not heard of what came up to this number must begin anew."""
        self.ended_count = 0
        """Tasks that have ended in this generation."""
        self._fresh: dict[Hashable, None] = {}  # changed since the last `settle`
        self._numbers: dict[Hashable, int] = {}  # in the order of the numbers
        self._gone: dict[Hashable, None] = {}
        self._max_ended = max_ended
        self._ended: deque[tuple[EndedTask, bool]] = deque()  # with whether it may have been sent as open
        self.followers = Followers()

    def begin(self) -> None:
        """Count from now on. The caller enters what there is."""
        self.is_on = True
        self.generation += 1
        self.number = self.floor = self.ended_count = 0

    def stop(self) -> None:
        """Nobody follows any more."""
        self.is_on = False
        for known in (self._fresh, self._numbers, self._gone, self._ended):
            known.clear()

    @property
    def is_unsettled(self) -> bool:
        """Something has changed since the last `settle`."""
        return bool(self._fresh)

    def settle(self) -> None:
        """Number what has changed."""
        numbers, number = self._numbers, self.number
        for thing in self._fresh:
            numbers.pop(thing, None)
            number += 1
            numbers[thing] = number
        self.number = number
        self._fresh.clear()
        while len(self._gone) > MAX_GONE:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            self.floor = max(self.floor, numbers.pop(oldest))

    def touch(self, thing: Hashable) -> None:
        """It has changed, or is new."""
        if self.is_on:
            self._fresh[thing] = None

    def enter_framework(self, framework_id: FrameworkID, framework: Hashable, info: FrameworkInfo) -> None:
        """It is new: followers are sent its name before its first task. The rest is found when frameworks are looked at."""
        if self.is_on:
            self.touch(Described(framework))
            self.followers.frameworks[framework_id] = SeenFramework(framework, None, info)

    def remove(self, thing: Hashable, gone: Hashable | None) -> None:
        """It is there no more. `gone` is what followers are sent instead; None where they hear of it otherwise."""
        if self.is_on and self._take(thing) and gone is not None:
            self._add_gone(gone)

    def end(self, task: Hashable, record: EndedTask) -> None:
        """A task has ended, so it is there no more."""
        if not self.is_on:
            return
        ended = self._ended
        if len(ended) >= self._max_ended:
            old, was_sent = ended.popleft()
            if was_sent:  # who does not hear of its end any more must not keep it for ever
                self._add_gone(GoneTask(old.framework_id, old.task_id, old.launched_at))
        ended.append((record, self._take(task)))
        self.ended_count += 1

    def add_past_end(self, record: EndedTask) -> None:
        """A task had ended before the counting began."""
        if len(self._ended) >= self._max_ended:
            self._ended.popleft()
        self._ended.append((record, False))
        self.ended_count += 1

    def since(self, number: int) -> list[tuple[Hashable, int]]:
        """What has changed after that number, each with its own, the oldest first."""
        found = []
        for thing, at in reversed(self._numbers.items()):
            if at <= number:
                break
            found.append((thing, at))
        found.reverse()
        return found

    def ended_since(self, count: int, limit: int) -> tuple[list[EndedTask], int]:
        """At most `limit` of the ends after the first `count`, as far as they are remembered, and how many came before them."""
        first = self.ended_count - len(self._ended)
        start = max(count, first)
        return [record for record, _ in islice(self._ended, start - first, start - first + limit)], start

    def _take(self, thing: Hashable) -> bool:
        """Remove it. Returns whether it had a number: only then may somebody have been sent it."""
        self._fresh.pop(thing, None)
        return self._numbers.pop(thing, None) is not None

    def _add_gone(self, gone: Hashable) -> None:
        self._gone.pop(gone, None)
        self._gone[gone] = None
        self._fresh[gone] = None


class Question(NamedTuple):
    """One that waits: until there is something, but not before `not_before`; at `until` it is answered anyway."""

    caller: Caller
    origin: str
    after: int
    ended_after: int
    limit: int
    not_before: float
    until: float


class SeenFramework(NamedTuple):
    """A framework as it was when it was last looked at."""

    framework: Hashable
    now: FrameworkNow | None
    """None: it was not looked at yet."""
    info: FrameworkInfo


class Followers:
    """Whose questions wait, and what was last seen of frameworks."""

    __slots__ = ("asked_at", "count", "frameworks", "questions", "scan_at")

    def __init__(self) -> None:
        self.questions: dict[PeerID, Question] = {}
        self.count = 0
        """How many questions waited when answers were last looked for. A follower asks anew as soon as it is answered."""
        self.asked_at = 0.0
        self.scan_at = 0.0
        self.frameworks: dict[FrameworkID, SeenFramework] = {}
