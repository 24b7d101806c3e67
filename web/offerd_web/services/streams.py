"""Streams of server-sent events: one for the page, which shows how everything is, and one of what happens.

However many listen, each text is made once. A listener that does not keep up loses its place, and is sent everything again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec

from offerd.cluster_events import ClusterEvent, EventReader
from offerd.ids import FrameworkID, SlaveID
from offerd_web.core.describe import Describer
from offerd_web.core.live import LiveFeed
from offerd_web.core.view import Delta
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context
from offerd_web.services.refusal import Refusal

MAX_STREAMS = 1000
FLUSH_S = 0.1
"""Texts are made this often, where something has changed."""
SLOWER_BYTES_S = 4 << 20
"""... but more seldom if all listeners together would be sent more than this."""
BEAT_S = 15.0
"""A comment is sent so often, so that both sides notice a dead connection."""
MAX_EVENTS = 10_000
IDLE_S = 60.0
"""Without listeners, texts and events are made for so long, so that a listener that returns finds its place."""


class Streams:
    """All streams of a gateway, and what feeds them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._feeds: dict[str, _Live] = {}
        self._events = Events(context)
        self._news = asyncio.Condition()
        self._is_ending = False
        self.open = 0
        """How many listen now."""

    @property
    def reader(self) -> EventReader | None:
        """What events are to be read with; None: nobody wants them."""
        return self._events.reader

    def take(self, delta: Delta) -> None:
        """An answer of the master has changed this."""
        for live in self._feeds.values():
            live.feed.take(delta)
        self._events.take(delta)

    async def run(self) -> None:
        """Make texts and wake the listeners, until `end`."""
        while not self._is_ending:
            await asyncio.sleep(FLUSH_S)
            now = time.monotonic()
            is_new = self._events.flush(now)
            for only_of, live in list(self._feeds.items()):
                if not live.listeners and now - live.left_at > IDLE_S:
                    del self._feeds[only_of]
                elif now >= live.flush_at:
                    is_new |= live.flush(now)
            if is_new:
                await self._wake()
        await self._wake()

    def end(self) -> None:
        """End all streams, within `FLUSH_S`."""
        self._is_ending = True

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    # -- listeners ------------------------------------------------------------------------------------------------------

    def live(self, caller: Caller, last_id: str) -> AsyncGenerator[bytes, None]:
        """How everything is, and then each change; after `last_id` if that is known. Raises `Refusal` if too many listen."""
        self._check_room()
        return self._live(caller, last_id)

    def events(self, caller: Caller, last_id: str) -> AsyncGenerator[bytes, None]:
        """What happens from now on, or after `last_id`. Raises `Refusal` if too many listen."""
        self._check_room()
        return self._happening(caller, last_id)

    async def _live(self, caller: Caller, last_id: str) -> AsyncGenerator[bytes, None]:
        self._enter()
        live = self._feeds.get(caller.only_of)
        if live is None:
            live = self._feeds[caller.only_of] = _Live(self._context, caller)
        live.listeners += 1
        try:
            feed = live.feed
            number = live.number_of(last_id)
            while not self._is_ending:
                texts = None if number is None else feed.after(number)
                if texts is None:
                    texts = [feed.first(time.time())]
                for text in texts:
                    number = text.number
                    yield _framed("live", f"{live.name}-{number}", text.data)
                if not await self._wait(lambda seen=number: feed.number != seen):
                    yield b": still here\n\n"
        finally:
            live.listeners -= 1
            live.left_at = time.monotonic()
            self.open -= 1

    async def _happening(self, caller: Caller, last_id: str) -> AsyncGenerator[bytes, None]:
        self._enter()
        log = self._events
        log.listeners += 1
        try:
            place = log.begin(last_id)
            if place is None:
                place = log.end
                if last_id:
                    yield _framed("missed", f"{log.name}-{place}", b"{}")
            while not self._is_ending:
                found = log.after(place)
                if found is None:
                    place = log.end
                    yield _framed("missed", f"{log.name}-{place}", b"{}")
                    found = []
                for number, framework_id, data in found:
                    place = number
                    if not framework_id or caller.sees(framework_id):
                        yield _framed("event", f"{log.name}-{number}", data)
                if not await self._wait(lambda seen=place: log.end != seen):
                    yield b": still here\n\n"
        finally:
            log.listeners -= 1
            log.left_at = time.monotonic()
            self.open -= 1

    def _check_room(self) -> None:
        if self.open >= MAX_STREAMS:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} streams are open already; try again later"
            )

    def _enter(self) -> None:
        """Counted where it begins, not where it is made: what never begins never ends."""
        self._check_room()
        self.open += 1

    async def _wait(self, is_new: Any) -> bool:
        """Until there is something new; False: there was nothing for a while."""
        try:
            async with asyncio.timeout(BEAT_S), self._news:
                await self._news.wait_for(lambda: self._is_ending or is_new())
        except TimeoutError:
            return False
        return True


class _Live:
    """A feed, its listeners, and when it is to be flushed."""

    def __init__(self, context: Context, caller: Caller) -> None:
        self.name = f"{time.time_ns():x}"
        self.listeners = 0
        self.left_at = time.monotonic()
        self.flush_at = 0.0
        self._describer = context.describer(caller)
        self._sees = caller.sees
        self._context = context
        self.feed = LiveFeed(context.view, caller.sees, self._describe)

    def number_of(self, last_id: str) -> int | None:
        name, _, number = last_id.partition("-")
        return (
            int(number)
            if name == self.name and number.isascii() and number.isdigit() and len(number) < 16
            else None
        )

    def flush(self, now: float) -> bool:
        before = self.feed.number
        if not self.feed.flush(time.time(), self._context.following().why):
            return False
        texts = self.feed.after(before) or ()
        sent_bytes = sum(len(text.data) for text in texts) * max(1, self.listeners)
        self.flush_at = now + max(FLUSH_S, sent_bytes / SLOWER_BYTES_S)
        return True

    def _describe(self, slaves: set[SlaveID] | None, frameworks: set[FrameworkID] | None) -> dict[str, Any]:
        context, describer, replica = self._context, self._describer, self._context.view.replica
        gone = [] if frameworks is None else sorted(frameworks - replica.frameworks.keys())
        return {
            "cluster": describer.cluster(time.time(), context.following(), context.leader),
            "slaves": list(
                describer.slaves() if slaves is None else _changed_slaves(describer, context, slaves)
            ),
            "frameworks": list(
                describer.frameworks(ended=True)
                if frameworks is None
                else describer.some_frameworks(frameworks)
            ),
            "gone_slaves": [] if slaves is None else sorted(slaves - replica.slaves.keys()),
            "gone_frameworks": [each for each in gone if self._sees(each)],
        }


def _changed_slaves(describer: Describer, context: Context, changed: set[SlaveID]) -> list[Any]:
    slaves = context.view.replica.slaves
    return [describer.slave(slaves[slave_id]) for slave_id in sorted(changed) if slave_id in slaves]


class Events:
    """What has happened lately, as JSON texts with numbers."""

    def __init__(self, context: Context) -> None:
        self.name = f"{time.time_ns():x}"
        self.reader: EventReader | None = None
        self.listeners = 0
        self.left_at = 0.0
        self.end = 0
        """The number of the latest."""
        self._context = context
        self._kept: deque[tuple[int, str, bytes]] = deque(maxlen=MAX_EVENTS)
        self._has_new = False

    def begin(self, last_id: str) -> int | None:
        """The place after this id; None: it is not known any more. From now on events are kept."""
        if self.reader is None:
            self.reader = EventReader(self._context.view.replica)
        name, _, number = last_id.partition("-")
        if name != self.name or not (number.isascii() and number.isdigit() and len(number) < 16):
            return None
        return int(number) if self.after(int(number)) is not None else None

    def take(self, delta: Delta) -> None:
        for event in delta.events:
            self.end += 1
            self._kept.append((self.end, event.framework_id, self._text(event)))
            self._has_new = True

    def flush(self, now: float) -> bool:
        if self.reader is not None and not self.listeners and now - self.left_at > IDLE_S:
            self.reader = None
            self._kept.clear()
            self.end += 1  # whoever returns has missed what happens meanwhile
        has_new, self._has_new = self._has_new, False
        return has_new

    def after(self, number: int) -> list[tuple[int, str, bytes]] | None:
        """The events after this number; None: some are not kept any more."""
        if number == self.end:
            return []
        if number > self.end or not self._kept or self._kept[0][0] > number + 1:
            return None
        first = self._kept[0][0]
        return [self._kept[at] for at in range(max(0, number + 1 - first), len(self._kept))][:1000]

    def _text(self, event: ClusterEvent) -> bytes:
        document = msgspec.to_builtins(event)
        document.pop("ago_s", None)
        when = datetime.fromtimestamp(time.time() - event.ago_s, UTC).isoformat(timespec="milliseconds")
        return msgspec.json.encode({"at": when.replace("+00:00", "Z"), **document})


def _framed(kind: str, number: str, data: bytes) -> bytes:
    """One server-sent event. JSON has no line ends."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), kind.encode(), data)
