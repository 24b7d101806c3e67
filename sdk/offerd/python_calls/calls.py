"""The bytes of a Python call on its way to the python executor, and of its result on its way back.

A call is the MessagePack array `[function, arguments, options, key]` in `TaskInfo.data`. Function and arguments are separate
pickles, so that many calls of one function begin with the same bytes, which the executor's workers unpickle once. A result is
`Inline`, `File` or `Raised` in the `data` of the terminal status, behind its *seal*. The executor passes both on as bytes; only
its workers and the framework unpickle.

Unpickling runs code. So each call has its own random key, which only the master and the slave that was given the call see, and
its result is sealed with it: a keyed BLAKE2 of its bytes. The framework ignores anything that is not sealed. The contents of a
file are verified by their SHA-256, which the seal covers.

Functions of importable modules are sent by name; others (of `__main__`, lambdas, closures) by value: see cloudpickle. To send a
module that the slaves do not have, call `cloudpickle.register_pickle_by_value(module)` first. A worker keeps a function for
later calls if nothing that the function reaches can be changed in place; what such a function writes to its own globals
outlives the call, as in any pool of processes. Other functions are unpickled anew for each call.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cloudpickle
import msgspec

from offerd.errors import BadMessage, ForgedResult, OfferdError
from offerd.python_calls.function_pickles import ATOMS, pickle_function
from offerd.wire.posix_text import readable

INLINE_RESULT_BYTES = 256 << 10
"""A result with a larger pickle goes into a file in the sandbox, because statuses are written to disk."""
EXCEPTION_BYTES = 64 << 10
"""Largest pickle of an exception, and longest traceback text. A larger exception is replaced by its `repr`."""
FUNCTIONS_KEPT = 256
FUNCTION_BYTES_KEPT = 64 << 20
"""Bounds of a worker's cache of functions: their number, and the sum of their pickles."""

SEAL_BYTES = 16
KEY_BYTES = 16
_WITH_KEY = b"\x94"
_KEY_FOLLOWS = bytes((0xC4, KEY_BYTES))
ADDED_BYTES = len(_KEY_FOLLOWS) + KEY_BYTES
"""A call with its key is so many bytes longer."""

Options = dict[str, object]
"""Options of a call for its worker, which ignores names that it does not know. `fixed`: the function may be kept."""
_FIXED: Options = {"fixed": True}


class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call as it is sent; `arguments` is the pickle of `(args, kwargs)`."""

    function: bytes
    arguments: bytes
    options: Options
    key: bytes = b""


class Inline(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The value's pickle."""

    pickled: bytes


class File(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The value's pickle is in a file: `path` within the executor's sandbox."""

    path: str
    size_bytes: int
    sha256: bytes


class Raised(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The call raised: the exception's pickle, and the worker's traceback as text."""

    pickled: bytes
    traceback: str


class NotReady(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The call was not made because the framework's initializer raised in its worker; fields as in `Raised`."""

    pickled: bytes
    traceback: str


Result = Inline | File | Raised | NotReady


class Outcome(NamedTuple):
    """The outcome of a call: an exception, or else a value."""

    value: object
    exception: BaseException | None = None
    is_broken: bool = False
    """The exception was raised by the initializer."""


class RemoteTraceback(Exception):
    """The `__cause__` of an exception that a call raised on the cluster: its text is the traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


_encode = msgspec.msgpack.Encoder().encode
_decode_call: Callable[[bytes], Call] = msgspec.msgpack.Decoder(Call).decode
_decode_result: Callable[[bytes], Result] = msgspec.msgpack.Decoder(Result).decode


# -- Calls ---------------------------------------------------------------------------------------------------


def pack_call(
    function: Callable[..., object], args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
) -> bytes:
    """A call as bytes for `TaskInfo.data`. Raises what pickling raises."""
    pickled = pickle_function(function)
    options = _FIXED if pickled.is_fixed else {}
    return _encode((pickled.data, _pickle_arguments(tuple(args), kwargs), options))


def with_key(call: bytes, key: bytes) -> bytes:
    """A packed call with its key added. The headers (array of 4, bytes of 16) are written by hand: the rest is encoded."""
    return _WITH_KEY + call[1:] + _KEY_FOLLOWS + key


def piece_with_key(call: bytes, key: bytes, start: int, end: int) -> bytes:
    """A part of what `with_key` returns, without making all of it."""
    piece = call[start:end]
    if not start:
        piece = _WITH_KEY + piece[1:]
    if end > len(call):
        piece += (_KEY_FOLLOWS + key)[max(0, start - len(call)) : end - len(call)]
    return piece


class Keys:
    """Makes a random key for each call. It reads randomness for many at once: a large read takes the kernel no longer."""

    def __init__(self) -> None:
        self._next = self._refill()

    def new(self) -> bytes:
        """A new key."""
        try:
            return next(self._next)
        except StopIteration:
            self._next = self._refill()
            return next(self._next)

    def _refill(self) -> Iterator[bytes]:
        pool = os.urandom(256 * KEY_BYTES)
        return (pool[at : at + KEY_BYTES] for at in range(0, len(pool), KEY_BYTES))


def unpack_call(data: bytes) -> Call:
    """Read a call; nothing is unpickled. Raises `BadMessage`."""
    try:
        return _decode_call(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadMessage(f"not a call of ours: {error}") from None


def _pickle_arguments(args: tuple[object, ...], kwargs: Mapping[str, object] | None) -> bytes:
    if not kwargs and ATOMS.issuperset(map(type, args)):
        return pickle.dumps((args, {}), pickle.HIGHEST_PROTOCOL)
    pickled: bytes = cloudpickle.dumps((args, dict(kwargs or {})))
    return pickled


class FunctionCache:
    """Functions by their pickles; the least recently used is dropped first. Unpickling takes longer than most calls."""

    def __init__(
        self,
        count: int = FUNCTIONS_KEPT,
        size_bytes: int = FUNCTION_BYTES_KEPT,
        on_load: Callable[[object], object] = lambda function: None,
    ) -> None:
        """`on_load` is called with each function that has just been unpickled."""
        self._count = count
        self._on_load = on_load
        self._size_bytes = size_bytes
        self._held_bytes = 0
        self._functions: OrderedDict[bytes, Callable[..., object]] = OrderedDict()

    def load(self, pickled: bytes, is_fixed: bool = True) -> Callable[..., object]:
        """The function. It is kept only if fixed: a call may change what another one holds, and the next call brings its own.
        Raises what unpickling raises, as that runs code of the framework.
        """
        function = self._functions.get(pickled) if is_fixed else None
        if function is not None:
            self._functions.move_to_end(pickled)
            return function
        loaded: Callable[..., object] = pickle.loads(pickled)
        self._on_load(loaded)
        if not is_fixed:
            return loaded
        self._functions[pickled] = loaded
        self._held_bytes += len(pickled)
        while len(self._functions) > self._count or self._held_bytes > self._size_bytes:
            self._held_bytes -= len(self._functions.popitem(last=False)[0])
        return loaded

    def __len__(self) -> int:
        return len(self._functions)


# -- Results -------------------------------------------------------------------------------------------------


def pickle_value(value: object) -> bytes:
    """The value's pickle. Raises what pickling raises."""
    if type(value) in ATOMS:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pickled: bytes = cloudpickle.dumps(value)
    return pickled


def pack_result(result: Result, key: bytes = b"") -> bytes:
    """The result as bytes for the `data` of a terminal status, sealed with its call's key."""
    packed = _encode(result)
    return _seal(packed, key) + packed


def _seal(packed: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(packed, key=key, digest_size=SEAL_BYTES).digest()


def file_result(path: str, pickled: bytes) -> File:
    """The result for a pickle that was written to this file."""
    return File(path, len(pickled), hashlib.sha256(pickled).digest())


def raised(error: BaseException, hidden_frames: int = 0) -> Raised:
    """An exception as a result. One that cannot be pickled and unpickled becomes a `RuntimeError` with its `repr`.

    `hidden_frames`: the number of outermost frames that are our own and are left out.
    """
    where = error.__traceback__
    for _ in range(hidden_frames):
        where = where.tb_next if where is not None and where.tb_next is not None else where
    text = readable("".join(traceback.format_exception(type(error), error, where)))
    if len(text) > EXCEPTION_BYTES:
        text = text[: EXCEPTION_BYTES // 2] + "\n[...]\n" + text[-EXCEPTION_BYTES // 2 :]
    try:
        pickled: bytes = cloudpickle.dumps(error)
        is_good = len(pickled) <= EXCEPTION_BYTES and isinstance(pickle.loads(pickled), BaseException)
    except BaseException:  # marked: pickling runs the exception's own code, which may raise anything
        is_good = False
    if not is_good:
        pickled = pickle.dumps(RuntimeError(_repr(error)[:4096]), pickle.HIGHEST_PROTOCOL)
    return Raised(pickled, text)


def _repr(error: BaseException) -> str:
    try:
        return repr(error)
    except BaseException:  # marked: the framework's own __repr__ may raise anything
        return f"{type(error).__qualname__}, whose repr raises"


def unpack_result(data: bytes, read_file: Callable[[File], bytes], key: bytes = b"") -> Outcome:
    """The outcome of a call, unpickled; `read_file` fetches the bytes of a `File` from the executor's sandbox.

    A value that cannot be unpickled here counts as an exception, too: a `RuntimeError` caused by the error. Raises, before
    anything is unpickled, `ForgedResult` if the data is not sealed with this key, `OfferdError` if a file does not match the
    seal, `BadMessage` if the data is not a result, and what `read_file` raises.
    """
    packed = data[SEAL_BYTES:]
    if not hmac.compare_digest(data[:SEAL_BYTES], _seal(packed, key)):
        raise ForgedResult("the call's result was not made by the executor that was given the call")
    try:
        result = _decode_result(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadMessage(f"not the result of a call: {error}") from None
    pickled = _read_checked(result, read_file) if isinstance(result, File) else result.pickled
    try:
        value = pickle.loads(pickled)
    except BaseException as error:  # marked: unpickling runs code of the framework, which may raise anything
        failure = RuntimeError(f"the call's result cannot be unpickled here: {_repr(error)}")
        failure.__cause__ = (
            RemoteTraceback(result.traceback) if isinstance(result, Raised | NotReady) else error
        )
        return Outcome(None, failure, isinstance(result, NotReady))
    if not isinstance(result, Raised | NotReady):
        return Outcome(value)
    if not isinstance(value, BaseException):
        raise BadMessage("not the result of a call: what it raised is not an exception")
    value.__cause__ = RemoteTraceback(result.traceback)
    return Outcome(None, value, isinstance(result, NotReady))


def _read_checked(file: File, read_file: Callable[[File], bytes]) -> bytes:
    pickled = read_file(file)
    if len(pickled) != file.size_bytes:
        raise OfferdError(f"{file.path} has {len(pickled)} bytes instead of {file.size_bytes}")
    if not hmac.compare_digest(hashlib.sha256(pickled).digest(), file.sha256):
        raise OfferdError(f"{file.path} does not hold the call's result (its SHA-256 differs)")
    return pickled
