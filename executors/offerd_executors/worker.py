"""A worker of the python executor: a forked process that calls one function after another.

It reads requests from descriptor 3, and answers each on descriptor 4 before it reads the next: the executor relies on that
order (`offerd_executors.channel`). When there are no more requests, it ends. Only here is anything unpickled. The framework's
code may do what any program may: print, fork, start threads, exit; if there is no answer, the executor learns from the
process's death.

    request:  a packet: 0, or 1 if the call is the file calls/TASK_ID; length of the id (one byte); task id; call
    answer:   length of what follows (4 bytes), MessagePack of `Answer`
"""

from __future__ import annotations

import contextlib
import fcntl
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

from offerd.errors import BadMessage, MessageTooLarge
from offerd.python_calls import calls
from offerd.python_calls.large_calls import MAX_BYTES
from offerd.tasks.sandbox_layout import RESULTS
from offerd.tasks.standard_streams import write_all
from offerd.wire.posix_text import readable
from offerd_executors.initializer import Initializer
from offerd_executors.programs import SECRETS

REQUESTS_FD, ANSWERS_FD = 3, 4
"""The worker's ends of its two sockets."""
LENGTH = struct.Struct("<I")
REQUEST_BYTES = 64 << 10
"""Largest packet."""
INLINE_CALL_BYTES = 48 << 10
"""A larger call is passed as a file: a packet must fit into the socket's buffer, with others."""
CALLS_DIRECTORY = "calls"
"""Directory in the sandbox: large calls, until their worker has read them."""
MESSAGE_CHARACTERS = 500


class Answer(msgspec.Struct, array_like=True, gc=False):
    """How a call ended: packed result, one line if it raised, the worker's CPU seconds, seconds by the clock, and the task's
    id."""

    has_raised: bool
    data: bytes
    message: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    task_id: str = ""


_encode = msgspec.msgpack.Encoder().encode
decode_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder(Answer).decode


def pack_request(task_id: str, call: bytes | None) -> bytes:
    """The bytes of a request; without a call, for one that is stored in a file."""
    name = task_id.encode()
    return b"".join((bytes((call is None, len(name))), name, call or b""))


def task_of(request: bytes) -> str:
    """The task id in a request."""
    return request[2 : 2 + request[1]].decode()


def run_worker(requests: int, answers: int, sandbox: str, worker_id: str) -> NoReturn:
    """What the forked child does. Its two ends become descriptors 3 and 4; all others above them are closed."""
    status = 1
    try:
        _settle(requests, answers, sandbox, worker_id)
        serve(REQUESTS_FD, ANSWERS_FD, sandbox)
        status = 0
    except BrokenPipeError:
        status = 0  # the executor has gone
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        # Never return into the executor's code, whose cleanups are not for this process.
        _flush()
        os._exit(status)


def _settle(requests: int, answers: int, sandbox: str, worker_id: str) -> None:
    """Drop what was inherited from the executor."""
    # Inherited garbage, such as ZeroMQ sockets, must not be collected here: its destructors would close descriptors that
    # are other files by then.
    gc.freeze()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    # Copy both above first: each may have the number that the other is to get.
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ANSWERS_FD + 1) for fd in (requests, answers)]
    for end, fd in zip(ends, (REQUESTS_FD, ANSWERS_FD), strict=True):
        os.dup2(end, fd, inheritable=False)
    os.closerange(ANSWERS_FD + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for name in SECRETS:
        os.environ.pop(name, None)
    os.environ["OFFERD_WORKER_ID"] = worker_id
    os.chdir(sandbox)


def serve(requests: int, answers: int, sandbox: str) -> None:
    """Answer requests until there are no more."""
    initializer = Initializer(sandbox)
    functions = calls.FunctionCache(on_load=initializer.hand_on)
    own_pid = os.getpid()
    # Empty: the executor is gone. A packet is read whole or not at all.
    while request := os.read(requests, REQUEST_BYTES):
        task_id = task_of(request)
        call = _read_call(sandbox, task_id) if request[0] else request[2 + request[1] :]
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        initializer.run_once()
        if initializer.error is None:
            answer = answer_call(functions, call, sandbox, task_id)
        else:
            answer = answer_not_ready(call, initializer.error)
        _flush()
        if os.getpid() != own_pid:
            # The function has forked, and this is the child returning from the call: it must not answer.
            os._exit(0)
        answer.cpu_s = time.process_time() - started_cpu_s
        answer.wall_s = time.perf_counter() - started_s
        answer.task_id = task_id
        packed = _encode(answer)
        write_all(answers, LENGTH.pack(len(packed)) + packed)


def _read_call(sandbox: str, task_id: str) -> bytes:
    path = os.path.join(sandbox, CALLS_DIRECTORY, task_id)
    with open(path, "rb") as file:
        call = file.read()
    os.unlink(path)
    return call


def answer_not_ready(call: bytes, error: BaseException) -> Answer:
    """The answer for a call that was not made because the initializer raised."""
    raised = calls.raised(error, hidden_frames=1)
    data = calls.pack_result(calls.NotReady(raised.pickled, raised.traceback), calls.unpack_call(call).key)
    return Answer(True, data, _line(f"the initializer raised {type(error).__qualname__}: {_text(error)}"))


def answer_call(functions: calls.FunctionCache, call: bytes, sandbox: str, task_id: str) -> Answer:
    """Unpickle, call and pickle. Anything raised, even `SystemExit`, becomes the answer, sealed with the call's key."""
    key = b""
    try:
        what = calls.unpack_call(call)
        key = what.key
        args, kwargs = pickle.loads(what.arguments)
        value = functions.load(what.function, bool(what.options.get("fixed")))(*args, **kwargs)
        pickled = calls.pickle_value(value)
        if len(pickled) <= calls.INLINE_RESULT_BYTES:
            return Answer(False, calls.pack_result(calls.Inline(pickled), key))
        if len(pickled) > MAX_BYTES:
            raise MessageTooLarge(
                f"a result of {len(pickled)} bytes is larger than {MAX_BYTES}; put it into a file"
            )
        return Answer(False, calls.pack_result(store_result(pickled, sandbox, task_id), key))
    except BadMessage as error:
        return Answer(True, calls.pack_result(calls.raised(error), key), str(error))
    except BaseException as error:  # marked: the framework's own code may raise anything
        line = _line(f"{type(error).__qualname__}: {_text(error)}")
        return Answer(True, calls.pack_result(calls.raised(error, hidden_frames=1), key), line)


def store_result(pickled: bytes, sandbox: str, task_id: str) -> calls.File:
    """Write a large result to a file in the sandbox, completely or not at all."""
    directory = os.path.join(sandbox, RESULTS)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    path = os.path.join(directory, task_id)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        write_all(fd, pickled)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return calls.file_result(f"{RESULTS}/{task_id}", pickled)


def _line(text: str) -> str:
    return readable(text.rstrip(": "))[:MESSAGE_CHARACTERS]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # marked: the framework's own __str__ may raise anything
        return "(its text cannot be made)"


def _flush() -> None:
    """Write what the call printed to the executor's files before its end is reported."""
    for stream in (sys.stdout, sys.stderr):
        # The call may have closed or replaced the stream, or its reader is gone.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
