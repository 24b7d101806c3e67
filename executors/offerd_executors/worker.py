"""A worker of the python executor: a forked process that calls one function after another.

It reads requests from its descriptor 3 and answers each before it reads the next; the end of that stream is
its own. Only here is anything unpickled. The framework's code may do in it what any program may: print, fork,
start threads, exit; the executor knows by the process's death what the answer does not say.

    request:  length (4 bytes, of what follows), length of the id (1 byte), task id, call (`offerd.calls`)
    answer:   length (4 bytes, of what follows), MessagePack of `Answer`
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

from offerd import calls
from offerd.errors import BadMessage
from offerd_executors.spawn import SECRETS

CHANNEL_FD = 3
"""Where a worker finds its end of the stream."""
LENGTH = struct.Struct("<I")
READ_BYTES = 64 << 10
MESSAGE_CHARACTERS = 500
RESULTS_DIRECTORY = "results"
"""In the sandbox: large results, a file each, named by the task."""


class Answer(msgspec.Struct, array_like=True, gc=False):
    """How a call ended: packed result, one line if it raised, CPU seconds of the worker."""

    has_raised: bool
    data: bytes
    message: str = ""
    cpu_s: float = 0.0


_encode = msgspec.msgpack.Encoder().encode
decode_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder(Answer).decode


def pack_request(task_id: str, call: bytes) -> bytes:
    """A request's bytes."""
    name = task_id.encode()
    return b"".join((LENGTH.pack(1 + len(name) + len(call)), bytes((len(name),)), name, call))


def run_worker(channel: int, sandbox: str, worker_id: str) -> NoReturn:
    """The forked child's life. `channel` becomes descriptor 3; all others above it are closed."""
    status = 1
    try:
        _settle(channel, sandbox, worker_id)
        serve(CHANNEL_FD, sandbox)
        status = 0
    except BrokenPipeError:
        status = 0  # the executor has gone
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        # Never back into the executor's stack: its cleanups are not ours.
        _flush()
        os._exit(status)


def _settle(channel: int, sandbox: str, worker_id: str) -> None:
    """Shed what was inherited."""
    # The executor's garbage, its ZeroMQ sockets among it, must not be collected here: what a destructor
    # closes would by then be another file.
    gc.freeze()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.dup2(channel, CHANNEL_FD, inheritable=False)
    os.closerange(CHANNEL_FD + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for name in SECRETS:
        os.environ.pop(name, None)
    os.environ["OFFERD_WORKER_ID"] = worker_id
    os.chdir(sandbox)


def serve(channel: int, sandbox: str) -> None:
    """Answer requests until the stream ends."""
    functions = calls.FunctionCache()
    own_pid = os.getpid()
    while True:
        request = _read_request(channel)
        if not request:
            return
        id_end = 1 + request[0]
        task_id = request[1:id_end].decode()
        started_s = time.process_time()
        answer = answer_call(functions, request[id_end:], sandbox, task_id)
        _flush()
        if os.getpid() != own_pid:
            # The function has forked, and this is its child, come back from the call: it has no one to
            # answer.
            os._exit(0)
        answer.cpu_s = time.process_time() - started_s
        packed = _encode(answer)
        _write(channel, LENGTH.pack(len(packed)) + packed)


def _read_request(channel: int) -> bytes:
    """What follows the length; empty at the end of the stream."""
    data = os.read(channel, READ_BYTES)
    while data:
        if len(data) >= LENGTH.size:
            missing = LENGTH.size + LENGTH.unpack_from(data)[0] - len(data)
            if missing == 0:  # never less: the next request comes after the answer
                return data[LENGTH.size :]
        else:
            missing = READ_BYTES
        more = os.read(channel, missing)
        if not more:
            return b""
        data += more
    return b""


def answer_call(functions: calls.FunctionCache, call: bytes, sandbox: str, task_id: str) -> Answer:
    """Unpickle, call, pickle. Whatever raises, `SystemExit` too, becomes the answer."""
    try:
        function, arguments, _ = calls.unpack_call(call)
        args, kwargs = pickle.loads(arguments)
        value = functions.load(function)(*args, **kwargs)
        pickled = calls.pickle_value(value)
        if len(pickled) <= calls.INLINE_RESULT_BYTES:
            return Answer(False, calls.pack_result(calls.Inline(pickled)))
        return Answer(False, calls.pack_result(store_result(pickled, sandbox, task_id)))
    except BadMessage as error:
        return Answer(True, calls.pack_result(calls.raised(error)), str(error))
    except BaseException as error:  # marked: the framework's own code may raise anything
        line = f"{type(error).__qualname__}: {_text(error)}".rstrip(": ")
        return Answer(
            True, calls.pack_result(calls.raised(error, hidden_frames=1)), line[:MESSAGE_CHARACTERS]
        )


def store_result(pickled: bytes, sandbox: str, task_id: str) -> calls.File:
    """Put a large result into a file of the sandbox, whole or not at all."""
    directory = os.path.join(sandbox, RESULTS_DIRECTORY)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    path = os.path.join(directory, task_id)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        _write(fd, pickled)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return calls.File(f"{RESULTS_DIRECTORY}/{task_id}", len(pickled))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # marked: the framework's own __str__ may raise anything
        return "(its text cannot be made)"


def _flush() -> None:
    """Have what the call printed in the executor's files before its end is known."""
    for stream in (sys.stdout, sys.stderr):
        # The call may have closed or replaced it, or nobody reads it any more.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]
