"""A recording of a core: its state at one moment, and every (event, now) since, as a stream of MessagePack values.

A core is deterministic, so these give everything that it did: `replay` repeats the actions. The stream is

    {"recording": 1, ...}       what was recorded, by which version, why and when
    [kind, ...] ...             the nodes of the state (`offerd.daemons.object_graph`), then None; only if `is_whole`
    [now, [node, ...]] ...      the events in order, each a graph of its own; None is a tick

`offerd.daemons.recording_reader` reads it. The secrets of file servers, and the keys that are made of them, are left out:
zeros stand for them, so a replay gives the same actions but for these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec

from offerd.daemons.object_graph import Ref, flatten
from offerd.files_access import FilesAccess, FilesSecret

FORMAT = 1
REF_CODE, REF_BYTES = 1, 4
"""The type of the MessagePack extension that is a `Ref`: four bytes, the number, the most significant first."""


def _as_extension(value: object) -> msgspec.msgpack.Ext:
    if type(value) is not Ref:
        raise TypeError(f"{type(value)} in a node")
    return msgspec.msgpack.Ext(REF_CODE, value.number.to_bytes(REF_BYTES, "big"))


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_as_extension)


_SECRETS: dict[type, str] = {FilesSecret: "secret", FilesAccess: "key"}


def _without_secret(of: object) -> object:
    field = _SECRETS.get(type(of))
    if field is None:
        return of
    return msgspec.structs.replace(of, **{field: bytes(len(getattr(of, field)))})  # type: ignore[type-var]


class Core(Protocol):
    """The core that is recorded."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Handle an event; returns actions."""

    def tick(self, now: float) -> list[Any]:
        """Do what is due; returns actions."""


class Step(NamedTuple):
    """An event and its time; None: a tick."""

    now: float
    event: Any


class Header(NamedTuple):
    """The head of a recording. `who`: `master` or `slave`; `why`: what it was written for. `written_at` is in seconds of the
    Unix clock, and `now` is the same moment on the core's clock. `first`: the number of its first step, counted from the
    daemon's start. `is_whole`: whether it has the state before that step, so that it can be replayed.
    """

    who: str
    version: str
    why: str
    written_at: float
    now: float
    first: int
    is_whole: bool


class Ring:
    """The latest steps of a core, up to a number of steps and of bytes. What is more is dropped with `trim`, once in each turn:
    noting a step is on the way of every event, and does nothing else.
    """

    def __init__(self, max_steps: int, max_bytes: int) -> None:
        self.max_steps = max_steps
        self.max_bytes = max_bytes
        self._steps: deque[tuple[float, Any]] = deque()
        self._frames: deque[tuple[int, int]] = deque()
        """The number of the step that was next when bytes were received, and how many they were."""
        self._bytes = self._total_bytes = 0
        self._first = 0

    @property
    def first(self) -> int:
        """The number of the oldest step that is kept, counted from the daemon's start."""
        self.trim()
        return self._first

    @property
    def next(self) -> int:
        """The number of the next step."""
        return self._first + len(self._steps)

    def grew(self, size_bytes: int) -> None:
        """So many bytes were received; the events noted next hold them."""
        self._frames.append((self.next, size_bytes))
        self._bytes += size_bytes

    def grew_to(self, total_bytes: int) -> None:
        """The same, given the number of bytes received so far in all."""
        if total_bytes != self._total_bytes:
            self.grew(total_bytes - self._total_bytes)
            self._total_bytes = total_bytes

    def note(self, now: float, event: Any) -> None:
        """Call this before the core handles the event, so that an event that makes the core fail is recorded."""
        self._steps.append((now, event))

    def trim(self) -> None:
        """Drop the oldest steps that are too many, or hold too much."""
        frames, first = self._frames, max(self._first, self.next - self.max_steps)
        # The bytes of a frame go with its last step, which is the one before the next frame.
        while frames and (self._bytes > self.max_bytes or (len(frames) > 1 and frames[1][0] <= first)):
            self._bytes -= frames.popleft()[1]
            first = max(first, frames[0][0] if frames else self.next)
        for _ in range(first - self._first):
            self._steps.popleft()
        self._first = first

    def since(self, number: int) -> Iterator[Step]:
        """The steps from this number on."""
        self.trim()
        return (Step(now, event) for now, event in islice(self._steps, max(0, number - self._first), None))


def pack_state(core: object) -> Iterator[bytes]:
    """The state of a core as it stands in a stream, node by node. Raises `NotPlain`."""
    pack = _ENCODER.encode
    yield from map(pack, flatten(core, _without_secret))
    yield pack(None)


def pack(header: Header, state: Iterable[bytes], steps: Iterable[Step]) -> Iterator[bytes]:
    """A whole stream, in pieces. `state` is what `pack_state` returned, if `header.is_whole`."""
    pack = _ENCODER.encode
    yield pack({"recording": FORMAT, **header._asdict()})
    if header.is_whole:
        yield from state
    for step in steps:
        yield pack([step.now, None if step.event is None else list(flatten(step.event, _without_secret))])
