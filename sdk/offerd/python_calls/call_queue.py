"""Decides which waiting calls go into which offers. Pure, and in constant time for each call of a uniform load.

Calls of one *shape* (resources and time limit) wait in one FIFO. Shapes are served by the age of their oldest call, each as far
as it fits (first fit), so a large call delays a small one for no longer than its own offer takes to come.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from typing import Any

from offerd.cluster_future import ClusterFuture, Shape
from offerd.core.slots import is_long
from offerd.ids import TaskID
from offerd.messages import Offer
from offerd.resources import Resources

ACCEPT_BYTES = 512 << 10
"""Most bytes of calls in one accept: half a frame, as the master adds to it on its way to the slave."""
CALL_OVERHEAD_BYTES = 256
"""About how many bytes a call's task needs besides its data and its name."""


def is_large(call: bytes) -> bool:
    """Whether the call fits into no accept, so that the executor must ask for it (`offerd.python_calls.large_calls`)."""
    return len(call) > ACCEPT_BYTES - CALL_OVERHEAD_BYTES


class Room:
    """What is left of an offer while it is filled. Only scalars count: calls cannot ask for ports."""

    __slots__ = ("bytes_left", "calls", "free", "long_free", "offer")

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.free = dict(offer.resources.scalars)
        self.long_free = dict(offer.long_quantities)
        self.calls: list[ClusterFuture[Any]] = []
        self.bytes_left = ACCEPT_BYTES

    def holds(self, shape: Shape) -> int:
        """How many more calls of this shape fit."""
        free = self.free
        count = min(free.get(name, 0) // need for name, need in shape.needs)
        if is_long(shape.time_limit_s, self.offer.short_limit_s, shape.kill_grace_s):
            count = min(count, *(self.long_free.get(name, 0) // need for name, need in shape.needs))
        return count

    def take(self, shape: Shape, count: int) -> None:
        for name, need in shape.needs:
            self.free[name] -= need * count
        if is_long(shape.time_limit_s, self.offer.short_limit_s, shape.kill_grace_s):
            for name, need in shape.needs:
                self.long_free[name] -= need * count


class CallQueue:
    """The waiting calls. Only `shape` may be called from several threads."""

    def __init__(self) -> None:
        self.size = 0
        self._shapes: weakref.WeakValueDictionary[object, Shape] = weakref.WeakValueDictionary()
        self._waiting: dict[Shape, None] = {}
        self._numbers = itertools.count(1)

    def shape(
        self, resources: Resources, time_limit_s: float | None, kill_grace_s: float | None = None
    ) -> Shape:
        """The one object for calls that ask for this."""
        key = (tuple(sorted(resources.scalars.items())), time_limit_s, kill_grace_s)
        return self._shapes.setdefault(key, Shape(resources, time_limit_s, kill_grace_s))

    def put(self, call: ClusterFuture[Any]) -> None:
        """Append a call to its line."""
        call.number = next(self._numbers)
        shape = call.options.shape
        if not shape.waiting:
            self._waiting[shape] = None
        shape.waiting.append(call)
        self.size += 1

    def put_back(self, call: ClusterFuture[Any]) -> None:
        """Put a call back at the head of its line, where it was taken from."""
        shape = call.options.shape
        self._waiting[shape] = None
        shape.waiting.appendleft(call)
        self.size += 1

    def prune(self, shape: Shape) -> None:
        """Drop cancelled calls at the head of this line. Others are dropped when they get there."""
        waiting = shape.waiting
        while waiting and waiting[0].cancelled():
            waiting.popleft()
            self.size -= 1
        if not waiting:
            self._waiting.pop(shape, None)

    def clear(self) -> list[ClusterFuture[Any]]:
        """Take out and return all calls."""
        calls = [call for shape in self._waiting for call in shape.waiting]
        for shape in self._waiting:
            shape.waiting.clear()
        self._waiting.clear()
        self.size = 0
        return calls

    def waiting_shapes(self) -> set[Shape]:
        return set(self._waiting)

    def fill_all(self, offers: Iterable[Offer], most: int | None = None) -> list[Room]:
        """Divide at most `most` of the calls among the offers: first evenly, so that few calls spread over many slaves, then as
        they fit.
        """
        rooms = [Room(offer) for offer in offers]
        left = self.size if most is None else min(most, self.size)
        if left > 0 and rooms:
            share = -(-left // len(rooms))
            for room in rooms:
                left -= self._fill(room, min(share, left))
            for room in rooms:
                if not self.size or not left:
                    break
                left -= self._fill(room, left)
        return rooms

    def _fill(self, room: Room, most: int) -> int:
        """Fill an offer; returns how many calls were put into it."""
        before = len(room.calls)
        shapes = list(self._waiting)
        if len(shapes) > 1:
            shapes.sort(key=lambda shape: shape.waiting[0].number)
        for shape in shapes:
            taken = self._take(room, shape, min(most, room.holds(shape)))
            if taken:
                room.take(shape, taken)
                most -= taken
            if not shape.waiting:
                del self._waiting[shape]
        return len(room.calls) - before

    def _take(self, room: Room, shape: Shape, count: int) -> int:
        waiting, taken, calls = shape.waiting, 0, room.calls
        while taken < count and waiting:
            call = waiting[0]
            size = 4 * len(call.name) + CALL_OVERHEAD_BYTES
            if not is_large(call.data):
                size += len(call.data)
            if size > room.bytes_left and calls:
                break
            waiting.popleft()
            self.size -= 1
            if call.cancelled():
                continue
            call.task_id = TaskID(f"call-{call.number}.{call.tries}" if call.tries else f"call-{call.number}")
            room.bytes_left -= size
            calls.append(call)
            taken += 1
        return taken


def smallest(shapes: Iterable[Shape]) -> dict[str, int]:
    """The least that an offer must hold of each name to be of use to one of these shapes."""
    least: dict[str, int] | None = None
    for shape in shapes:
        scalars = shape.resources.scalars
        least = (
            dict(scalars)
            if least is None
            else {k: min(v, scalars[k]) for k, v in least.items() if k in scalars}
        )
    return least or {}
