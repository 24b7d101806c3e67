"""A recording of what a core saw: its state at one moment, and every (event, now) since, as a stream of MessagePack values.

A core is deterministic, so whoever has these has all that it did: `replay` gives the actions again. The stream is

    {"recording": 1, ...}       what was recorded, by which version, why and when
    [kind, ...] ...             the nodes of the state (`offerd.daemons.object_graph`), and None; nothing unless `is_whole`
    [now, [node, ...]] ...      the events in their order, each a graph of its own; None is a tick

The reader unpacks as it goes, so that a stream that was cut off is good as far as it goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, Any, NamedTuple, Protocol

import msgpack

from offerd.daemons.object_graph import Ref, flatten, restore
from offerd.errors import BadInput

FORMAT = 1
MAX_VALUE_BYTES = 64 << 20
"""Of one value of the stream, as it is read."""
_REF_CODE = 1


class Core(Protocol):
    """What is recorded."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take in what happened; returns what is to be done."""

    def tick(self, now: float) -> list[Any]:
        """The same of what is due."""


class Step(NamedTuple):
    """An event, and when; None: a tick."""

    now: float
    event: Any


class Header(NamedTuple):
    """What a recording says of itself. `who`: `master` or `slave`; `why`: what it was written for. `written_at` is in seconds
    of the Unix clock, and `now` the same moment on the core's clock. `first`: the number of its first step, counted from the
    daemon's start. `is_whole`: whether it begins with the state before that, so that it can be replayed.
    """

    who: str
    version: str
    why: str
    written_at: float
    now: float
    first: int
    is_whole: bool


class Ring:
    """The latest steps of a core: so many, and so many bytes at most."""

    def __init__(self, max_steps: int, max_bytes: int) -> None:
        self.max_steps = max_steps
        self.max_bytes = max_bytes
        self._steps: deque[tuple[float, Any, int]] = deque()
        self._bytes = 0
        self._grown = self._total_bytes = 0
        self.first = 0
        """The number of the oldest step that is here, counted from the daemon's start."""

    @property
    def next(self) -> int:
        """The number of the step that comes next."""
        return self.first + len(self._steps)

    def grew(self, size_bytes: int) -> None:
        """So much has come in, and will be held by the events that are noted next."""
        self._grown += size_bytes

    def grew_to(self, total_bytes: int) -> None:
        """The same, where all that has ever come in is counted."""
        self._grown += total_bytes - self._total_bytes
        self._total_bytes = total_bytes

    def note(self, now: float, event: Any) -> None:
        """Before the core has it: what makes a core fail is what one wants to see."""
        self._steps.append((now, event, self._grown))
        self._bytes += self._grown
        self._grown = 0
        while len(self._steps) > self.max_steps or (self._bytes > self.max_bytes and self._steps):
            self._bytes -= self._steps.popleft()[2]
            self.first += 1

    def since(self, number: int) -> Iterator[Step]:
        """The steps from that number on."""
        return (Step(now, event) for now, event, _ in islice(self._steps, max(0, number - self.first), None))


def pack_state(core: object) -> Iterator[bytes]:
    """The state of a core as that part of a stream, node by node. Raises `NotPlain`."""
    pack = _packer().pack
    yield from map(pack, flatten(core))
    yield pack(None)


def pack(header: Header, state: Iterable[bytes], steps: Iterable[Step]) -> Iterator[bytes]:
    """A whole stream, in pieces. `state` is what `pack_state` gave, if `header.is_whole`."""
    pack = _packer().pack
    yield pack({"recording": FORMAT, **header._asdict()})
    if header.is_whole:
        yield from state
    for step in steps:
        yield pack([step.now, None if step.event is None else list(flatten(step.event))])


class Recording:
    """A stream, read. `core` is what was recorded, as it was before the first step; None if the stream has no state."""

    def __init__(self, file: IO[bytes], is_allowed: Callable[[str], bool]) -> None:
        """`is_allowed`: see `offerd.daemons.object_graph.restore`. Raises `BadInput` where it is no recording."""
        self._is_allowed = is_allowed
        self._values = msgpack.Unpacker(
            file, ext_hook=_ref, strict_map_key=False, max_buffer_size=MAX_VALUE_BYTES, use_list=True
        )
        self.is_cut = False
        """The stream ends in the middle of a step: known when `steps` has ended."""
        self.header = self._header()
        self.core: Any = None
        if self.header.is_whole:
            self.core = restore(iter(self._next, None), is_allowed)

    def _next(self) -> Any:
        """Raises `BadInput` at the end, and where nothing can be unpacked."""
        try:
            return self._values.unpack()
        except msgpack.OutOfData:
            raise BadInput("the recording is cut off before its first event") from None
        except (ValueError, msgpack.UnpackException) as error:
            raise BadInput(f"this is no recording: {error}") from None

    def _header(self) -> Header:
        said = self._next()
        if not isinstance(said, dict) or said.pop("recording", None) != FORMAT:
            raise BadInput("this is no recording, or one of a version that is not known here")
        try:
            header = Header(**said)
        except TypeError as error:
            raise BadInput(f"this is no recording: {error}") from None
        return header

    def steps(self) -> Iterator[Step]:
        """What the core saw, in order, once. Raises `BadInput`."""
        while True:
            start = self._values.tell()
            try:
                value = self._values.unpack()
            except msgpack.OutOfData:
                self.is_cut = self._values.tell() != start
                return
            except (ValueError, msgpack.UnpackException) as error:
                raise BadInput(f"the recording cannot be read further: {error}") from None
            yield self._step(value)

    def _step(self, value: Any) -> Step:
        match value:
            case [float() | int() as now, None]:
                return Step(float(now), None)
            case [float() | int() as now, [*nodes]]:
                return Step(float(now), restore(nodes, self._is_allowed))
        raise BadInput(f"the recording cannot be read further: {str(value)[:80]} is no event")


def replay(core: Core, steps: Iterable[Step]) -> Iterator[tuple[Step, list[Any] | Exception]]:
    """Each step with the actions that the core answers with, or the error that it raises."""
    for step in steps:
        try:
            actions = core.tick(step.now) if step.event is None else core.handle(step.event, step.now)
        except Exception as error:  # marked: the very error for which a recording was written
            yield step, error
        else:
            yield step, actions


def _packer() -> msgpack.Packer:
    return msgpack.Packer(default=_pack_ref, strict_types=True)


def _pack_ref(value: object) -> msgpack.ExtType:
    if type(value) is not Ref:
        raise TypeError(f"{type(value)} in a node")
    return msgpack.ExtType(_REF_CODE, value.number.to_bytes(4, "big"))


def _ref(code: int, data: bytes) -> Ref:
    if code != _REF_CODE:
        raise BadInput("this is no recording")
    return Ref(int.from_bytes(data, "big"))
