"""Counts what containers have on the disk, in a thread of its own, and finds those that are over their share.

The files may have been made with bad intent: no link is followed, no other file system is entered, and a walk holds two
descriptors for each level of directories and ends at the first file that is too much. After a walk, a container rests ten
times as long as the walk took: one with a million files is counted seldom, one with few every time. Not counted are deleted
files that are still open, and what a task writes elsewhere on the host.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offerd.ids import ContainerID, TaskID
from offerd.tasks.sandbox_layout import TASKS
from offerd_isolation.base import Limitation
from offerd_slave.core.shares import MOST_DEEP, Held, Share, Shares, over
from offerd_slave.directory_walk import ENTRIES_AT_ONCE, OPEN_DIRECTORY, PAUSE_S
from offerd_slave.findings import Findings

MOST_LINKED = 200_000
"""How many files with several names are remembered, at about 130 bytes each, so that each counts once. Of further files every
name counts."""
REST = 10.0
"""A container is not counted again before this many times the time that it took."""
_BLOCK_BYTES = 512
"""Unit of `st_blocks`, whatever the file system's blocks are (stat(2))."""


@dataclass(slots=True)
class Count:
    """What one container has; `tasks` by the names of their directories."""

    whole: Held = field(default_factory=Held)
    tasks: dict[str, Held] = field(default_factory=dict)


@dataclass(slots=True)
class _Level:
    """A directory that is being read."""

    fd: int
    entries: Any  # os.scandir's iterator
    task: Held | None
    holds_tasks: bool


class Walk:
    """A walk through one or several directories of a container. If a file has several names, the first counts."""

    def __init__(self, most: Share, pause: Callable[[], object] = lambda: None) -> None:
        self.count = Count()
        self._most = most
        self._pause = pause
        self._entries = 0
        self._linked: set[tuple[int, int]] = set()
        self._levels: list[_Level] = []

    def through(self, top: str | Path, *, is_sandbox: bool = True) -> Count:
        """Count what is below `top`. Entries that vanish meanwhile, or cannot be entered, are not counted."""
        with suppress(OSError):
            self._enter(os.open(top, OPEN_DIRECTORY), None, holds_tasks=False)
        if not self._levels:
            return self.count
        device = os.fstat(self._levels[0].fd).st_dev
        try:
            while self._levels and not self._is_over():
                entry = next(self._levels[-1].entries, None)
                if entry is None:
                    self._leave()
                else:
                    with suppress(OSError):
                        self._take(entry, device, is_sandbox)
        finally:
            while self._levels:
                self._leave()
        return self.count

    def _is_over(self) -> bool:
        whole = self.count.whole
        return whole.size_bytes > self._most.size_bytes or whole.inodes > self._most.inodes

    def _take(self, entry: os.DirEntry[str], device: int, is_sandbox: bool) -> None:
        self._entries += 1
        if self._entries % ENTRIES_AT_ONCE == 0:
            self._pause()
        found = entry.stat(follow_symlinks=False)
        if found.st_dev != device:
            return
        is_directory = stat.S_ISDIR(found.st_mode)
        if found.st_nlink > 1 and not is_directory:
            if (device, found.st_ino) in self._linked:
                return
            if len(self._linked) < MOST_LINKED:
                self._linked.add((device, found.st_ino))
        level, depth = self._levels[-1], len(self._levels)
        task = level.task
        if is_directory and level.holds_tasks:
            task = self.count.tasks.setdefault(entry.name, Held())
        for held in (self.count.whole, task):
            if held is not None:
                held.add(found.st_blocks * _BLOCK_BYTES)
        if not is_directory:
            return
        if depth > MOST_DEEP:
            for held in (self.count.whole, task):
                if held is not None:
                    held.is_too_deep = True
            return
        holds_tasks = is_sandbox and depth == 1 and entry.name == TASKS
        self._enter(os.open(entry.name, OPEN_DIRECTORY, dir_fd=level.fd), task, holds_tasks=holds_tasks)

    def _enter(self, fd: int, task: Held | None, *, holds_tasks: bool) -> None:
        try:
            entries = os.scandir(fd)
        except OSError:
            os.close(fd)
            raise
        self._levels.append(_Level(fd, entries, task, holds_tasks))

    def _leave(self) -> None:
        level = self._levels.pop()
        level.entries.close()
        os.close(level.fd)


@dataclass(frozen=True, slots=True)
class ContainerToCount:
    """A container whose files are to be counted."""

    shares: Shares
    sandbox: str


class DiskWatch:
    """`fd` is readable when `found` has something. `more_places` gives the directories of a container beside its sandbox."""

    def __init__(self, more_places: Callable[[ContainerID], Iterable[str]] = lambda _: ()) -> None:
        self._more_places = more_places
        self._findings = Findings()
        self.fd = self._findings.fd
        self._requests: queue.SimpleQueue[list[ContainerToCount] | None] = queue.SimpleQueue()
        self._not_before: dict[ContainerID, float] = {}  # monotonic
        self._closing = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._work, name="disk-watch", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether it has counted all that it was given."""
        return self._idle.is_set()

    def look(self, containers: Iterable[ContainerToCount]) -> None:
        """Count these containers, except those that must rest."""
        self._idle.clear()
        self._requests.put(list(containers))

    def found(self) -> list[Limitation]:
        """The tasks and containers found over their shares since the last call."""
        return self._findings.take()

    def close(self) -> None:
        """End the thread, in the middle of a walk if need be."""
        self._closing.set()
        self._requests.put(None)
        self._thread.join()
        self._findings.close()

    def _work(self) -> None:
        while (containers := self._requests.get()) is not None:
            known = {container.shares.container_id for container in containers}
            self._not_before = {each: when for each, when in self._not_before.items() if each in known}
            for container in containers:
                if self._closing.is_set():
                    return
                began = time.monotonic()
                if began < self._not_before.get(container.shares.container_id, began):
                    continue
                for limitation in self._look(container):
                    self._findings.put(limitation)
                ended = time.monotonic()
                self._not_before[container.shares.container_id] = ended + REST * (ended - began)
            self._idle.set()

    def _pause(self) -> None:
        if self._closing.wait(PAUSE_S):
            raise _Closing

    def _look(self, container: ContainerToCount) -> list[Limitation]:
        shares = container.shares
        walk = Walk(shares.whole, self._pause)
        with suppress(_Closing):
            walk.through(container.sandbox)
            for place in self._more_places(shares.container_id):
                walk.through(place, is_sandbox=False)
            return judge(shares, walk.count)
        return []


class _Closing(Exception):
    """The slave ends: stop the walk."""


def judge(shares: Shares, count: Count) -> list[Limitation]:
    """The tasks that are over their shares; if there is none, the container if it is over its own."""
    found = []
    for name, held in count.tasks.items():
        share = shares.tasks.get(TaskID(name))
        if share is not None and (hit := over(shares.container_id, TaskID(name), held, share)) is not None:
            found.append(hit)
    if found:
        return found
    hit = over(shares.container_id, TaskID(""), count.whole, shares.whole)
    return [hit] if hit is not None else []
