"""Reads a recording (`offerd.daemons.recording`) and runs it through its core again.

The stream is unpacked piece by piece, so one that was cut off can be used up to there. No daemon imports this: msgpack, which
can unpack a stream, takes half a megabyte of memory, and writing one needs only the encoder of the messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import msgpack
import msgspec

from offerd.daemons.object_graph import Ref, restore
from offerd.daemons.recording import FORMAT, REF_BYTES, REF_CODE, Core, Header, Step
from offerd.errors import BadInput
from offerd.values.bounds import MAX_SECONDS

MAX_VALUE_BYTES = 64 << 20
"""Largest single value that is read from the stream."""


class Recording:
    """A stream that is read. `core` is the recorded core, as it was before the first step; None if the stream has no state."""

    def __init__(self, file: IO[bytes], is_allowed: Callable[[str, str], bool]) -> None:
        """`is_allowed`: see `offerd.daemons.object_graph.restore`. Raises `BadInput` if the file is not a recording."""
        self._is_allowed = is_allowed
        self._values = msgpack.Unpacker(
            file, ext_hook=_ref, strict_map_key=False, max_buffer_size=MAX_VALUE_BYTES, use_list=True
        )
        self.is_cut = False
        """The stream ends in the middle of a step; known once `steps` has ended."""
        self.header = self._header()
        self.core: Any = None
        if self.header.is_whole:
            self.core = restore(iter(self._next, None), is_allowed)

    def _unpack(self) -> Any:
        """The next value. Raises `msgpack.OutOfData` at the end of the stream, and `BadInput` if it cannot be unpacked."""
        try:
            return self._values.unpack()
        except msgpack.OutOfData:
            raise
        except (TypeError, ValueError, msgpack.UnpackException) as error:  # TypeError: a list as a key
            raise BadInput(
                f"the recording cannot be read further: {str(error) or type(error).__name__}"
            ) from None

    def _next(self) -> Any:
        """The same, where the stream must not end."""
        try:
            return self._unpack()
        except msgpack.OutOfData:
            raise BadInput("the recording is cut off before its first event") from None

    def _header(self) -> Header:
        said = self._next()
        if not isinstance(said, dict) or said.pop("recording", None) != FORMAT:
            raise BadInput("this is not a recording, or one of a version that is not known here")
        try:
            header = msgspec.convert([said[name] for name in Header._fields], Header)
        except (KeyError, msgspec.ValidationError) as error:
            raise BadInput(f"this is not a recording: its header has no usable {error}") from None
        if not (math.isfinite(header.now) and math.isfinite(header.written_at)):
            raise BadInput("this is not a recording: a time in its header is not a number")
        return header

    def steps(self) -> Iterator[Step]:
        """The recorded steps, in order; can be read once. Raises `BadInput`."""
        while True:
            start = self._values.tell()
            try:
                value = self._unpack()
            except msgpack.OutOfData:
                self.is_cut = self._values.tell() != start
                return
            yield self._step(value)

    def _step(self, value: Any) -> Step:
        match value:
            case [float() | int() as now, None] if _is_moment(now):
                return Step(float(now), None)
            case [float() | int() as now, [*nodes]] if _is_moment(now):
                return Step(float(now), restore(nodes, self._is_allowed))
        raise BadInput(f"the recording cannot be read further: a {type(value).__name__} is not an event")


def _is_moment(now: float) -> bool:
    """Whether this can be a time in seconds."""
    return -MAX_SECONDS <= now <= MAX_SECONDS  # also false for what is not a number


def replay(core: Core, steps: Iterable[Step]) -> Iterator[tuple[Step, list[Any] | Exception]]:
    """Each step with the actions that the core returns, or the error that it raises."""
    for step in steps:
        try:
            actions = core.tick(step.now) if step.event is None else core.handle(step.event, step.now)
            if not isinstance(actions, list):
                raise TypeError(f"the core has returned a {type(actions).__name__}")
        except Exception as error:  # marked: perhaps the error for which the recording was written
            yield step, error
        else:
            yield step, actions


def _ref(code: int, data: bytes) -> Ref:
    if code != REF_CODE or len(data) != REF_BYTES:
        raise BadInput("this is not a recording: an extension in it is unknown")
    return Ref(int.from_bytes(data, "big"))
