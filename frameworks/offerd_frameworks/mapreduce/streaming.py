"""Hadoop Streaming: shell commands as mapper, combiner and reducer, connected by pipes.

The kernel moves all data from program to program. This process only reads their stderr, where lines
`reporter:counter:GROUP,NAME,N` count, and `reporter:status:TEXT` say what the task is doing. The rest of stderr is the task's.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, NamedTuple, Protocol

from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.leftovers import Leftovers

COMMANDS = "commands"
"""The commands' working directory, in the task's directory: so none of their files can have the name of one of ours."""
SORT_ENVIRONMENT = {"LC_ALL": "C"}
"""Bytes are compared, whatever the language: the order of keys is the same on every host."""
BY_KEY = ["-s", "-t", "\t", "-k1,1"]
MERGE_AT_ONCE = 512
LAST_WORDS_BYTES = 400
BLOCK_BYTES = 64 << 10
SCAN_BYTES = 256 << 10
PIPE_BYTES = 1 << 20
leftovers = Leftovers()
SHORTER = "the input is shorter than it was when the job began"
NO_THREAD = (
    "no thread can be started: the task has as many processes and threads as it may, or too little memory"
)


@dataclass
class Reporter:
    """What the commands have reported on stderr."""

    counters: Counter[str] = field(default_factory=Counter)
    status: str = ""
    last_line: str = ""

    def hear(self, line: bytes) -> bool:
        """Handle one line of stderr; False if it is not a report."""
        text = line.decode(errors="replace").strip()
        if text.startswith("reporter:counter:"):
            parts = text.removeprefix("reporter:counter:").split(",")
            if len(parts) >= 3 and _is_number(parts[-1]):
                group, name = parts[0].strip(), ",".join(parts[1:-1]).strip()
                self.counters[f"{group}:{name}"] += int(parts[-1])
            return True
        if text.startswith("reporter:status:"):
            self.status = text.removeprefix("reporter:status:").strip()[:LAST_WORDS_BYTES]
            return True
        if text:
            self.last_line = text[:LAST_WORDS_BYTES]
        return False


NO_THREAD = (
    "no thread can be started: the task has as many processes and threads as it may, or too little memory"
)


def _is_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


class Stage:
    """One running process of a pipeline: a command of the job (`heard`), or one of our tools."""

    def __init__(
        self,
        what: str,
        words: str | list[str],
        environment: dict[str, str],
        reporter: Reporter,
        stdin: int | IO[bytes],
        stdout: int | IO[bytes],
        any_status: bool = False,
        ended_by: str = "",
        umask: int | None = None,
    ) -> None:
        """A string is run by the shell, in `COMMANDS`. The descriptors are only for the child: pipes are closed here.

        `any_status`: no exit status is a failure, but being killed is. `ended_by`: without this file in `COMMANDS` the command
        has failed, whatever its status. `umask`: None is ours.
        """
        self.what = what
        self._any_status = any_status
        self._ended_by = ended_by
        self._is_tool = not isinstance(words, str)

        def start(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                words,
                shell=not self._is_tool,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=None if self._is_tool else COMMANDS,
                umask=-1 if umask is None else umask,
            )

        self._process = leftovers.start(start, environment, is_tool=self._is_tool)
        self._reporter = reporter
        self._reason = ""
        """From its stderr: a tool's first line says why it failed; of a command, the last line, as after a traceback."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        try:
            self._listener.start()
            # Reap it as soon as it ends: a process that writes to what it has left would wait for ever.
            self._ending = Pump(partial(leftovers.reap, self._process))
        except (RuntimeError, CommandFailed):
            self._process.kill()
            self._process.wait()
            # Without a listener, nobody else closes it.
            if self._listener.ident is None and self._process.stderr is not None:
                self._process.stderr.close()
            raise CommandFailed(NO_THREAD) from None

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if not self._reporter.hear(line):
                    if not (self._is_tool and self._reason):
                        self._reason = (
                            line.decode(errors="replace").strip()[:LAST_WORDS_BYTES] or self._reason
                        )
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()

    def reap(self) -> int:
        """Wait until it has ended; returns the status, whatever that is."""
        self._ending.join()
        self._listener.join()
        return self._process.wait()

    def wait(self, *, may_be_cut_off: bool = False) -> None:
        """Wait and check. Raises `CommandFailed`. `may_be_cut_off`: its reader may have stopped reading well before its end."""
        status = self.reap()
        has_ended = not self._ended_by or os.path.exists(os.path.join(COMMANDS, self._ended_by))
        if status == 0 and not has_ended:
            raise CommandFailed(
                f"the {self.what} exited before it had done everything: {self._reason}".rstrip(": ")
            )
        if status == 0 or (may_be_cut_off and status == -signal.SIGPIPE):
            return
        if self._any_status and status > 0 and has_ended:
            sys.stderr.write(
                f"the {self.what} ended with status {status}, which does not count as a failure in this job\n"
            )
            return
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise CommandFailed(f"the {self.what} {how}" + (f": {self._reason}" if self._reason else ""))


def job_environment(job: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    """The commands' environment: this process's own, their working directory first in PATH, and Hadoop's variables.

    A property `mapreduce.job.name` becomes `mapreduce_job_name`; old names from before Hadoop 2 that scripts still use are
    added.
    """
    environment = {**os.environ, **job, **more}
    for name in [name for name in environment if name.startswith("OFFERD_MAPREDUCE_TASK")]:
        del environment[name]
    environment["PATH"] = f"{os.getcwd()}/{COMMANDS}:{environment.get('PATH', os.defpath)}"
    for old, new in OLD_NAMES.items():
        if new in environment:
            environment[old] = environment[new]
    return environment


OLD_NAMES = {
    "map_input_file": "mapreduce_map_input_file",
    "map_input_start": "mapreduce_map_input_start",
    "map_input_length": "mapreduce_map_input_length",
    "mapred_job_id": "mapreduce_job_id",
    "mapred_job_name": "mapreduce_job_name",
    "mapred_map_tasks": "mapreduce_job_maps",
    "mapred_reduce_tasks": "mapreduce_job_reduces",
    "mapred_task_id": "mapreduce_task_attempt_id",
    "mapred_task_is_map": "mapreduce_task_ismap",
    "mapred_task_partition": "mapreduce_task_partition",
    "mapred_tip_id": "mapreduce_task_id",
}


def sort_words(buffer_bytes: int, *, by_key: bool) -> list[str]:
    """A command line for GNU sort within so much memory; it spills into the working directory by itself.

    If no line has a TAB, the whole line is the key, and comparing lines as they are takes two thirds of the time.
    """
    return [
        "sort",
        *(BY_KEY if by_key else ()),
        "-S",
        f"{buffer_bytes // 1024}K",
        f"--batch-size={MERGE_AT_ONCE}",
        "--parallel=1",
        "-T",
        os.getcwd(),
    ]


def merge_words(files: Iterable[str], *, by_key: bool) -> list[str]:
    """A command line for GNU sort that merges sorted files."""
    order = BY_KEY if by_key else ()
    return ["sort", "-m", *order, f"--batch-size={MERGE_AT_ONCE}", "-T", os.getcwd(), "--", *files]


def sort_environment() -> dict[str, str]:
    return {**os.environ, **SORT_ENVIRONMENT}


def pipe() -> tuple[int, int]:
    """A pipe, large if the kernel allows: the programs at its ends then switch less often."""
    ends = os.pipe()
    # PermissionError: this user's pipes hold too much already (pipe-user-pages-soft, pipe(7)).
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return ends


class Pump:
    """Runs a function in a thread of its own; its error is raised by `join`, in the thread that waits for it.

    Raises `CommandFailed` if no thread can be started.
    """

    def __init__(self, move: Callable[[], None]) -> None:
        self._move = move
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        try:
            self._thread.start()
        except RuntimeError:
            raise CommandFailed(NO_THREAD) from None

    def _run(self) -> None:
        try:
            self._move()
        except BaseException as error:  # marked: any error is raised by `join`
            self._error = error

    def wait(self) -> None:
        """Wait until it has ended, with or without an error."""
        self._thread.join()

    def join(self) -> None:
        """Wait until it has ended. Raises its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def write_waiting(target: int, data: bytes | memoryview) -> None:
    """Write all of it, even if another holder of this pipe has made it non-blocking. Raises `OSError`."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(target, left) :]
        except BlockingIOError:
            room = select.poll()
            room.register(target, select.POLLOUT)
            room.poll()


class WaitingOutput(io.RawIOBase):
    """A descriptor of our own whose writes are complete."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        write_waiting(self._fd, data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def feed(source: int, target: int, offset: int, length: int, ending: bytes = b"") -> None:
    """Move a part of a file into a pipe, and write `ending`; it is no error if the reader stops early. Closes `target`."""
    try:
        while length:
            moved = os.splice(source, target, min(length, 1 << 20), offset_src=offset)
            if not moved:
                raise CommandFailed(SHORTER)
            offset += moved
            length -= moved
        os.write(target, ending)
    except BrokenPipeError:
        pass
    finally:
        os.close(target)


def feed_lines(source: io.BufferedReader, target: int) -> int:
    """Write all of it into a pipe, completing the last line; returns the number of lines. Closes `source`.

    It is no error if the reader of the pipe stops early; all input is read nevertheless.
    """
    lines, last, is_read = 0, b"\n", True
    with source:
        while part := source.read1(SCAN_BYTES):
            is_read = is_read and write_all([part], target)
            lines += part.count(b"\n")
            last = part[-1:]
    if last != b"\n":
        write_all([b"\n"] if is_read else [], target)
        lines += 1
    return lines


def relay(source: int, target: int) -> None:
    """Copy one pipe into another until its end, completing the last line. Closes `source`.

    The kernel could move the bytes, but would not show us the last one.
    """
    buffer = memoryview(bytearray(SCAN_BYTES))
    last = b"\n"
    try:
        while count := os.readv(source, [buffer]):
            write_waiting(target, buffer[:count])
            last = bytes(buffer[count - 1 : count])
        if last != b"\n":
            os.write(target, b"\n")
    except BrokenPipeError:
        pass  # the reader has stopped, and its own error says why
    finally:
        os.close(source)


def end_last_line(file: int) -> None:
    """Complete the last line of this file, a command's output, if it has no line end."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.lseek(file, 0, os.SEEK_END)
        os.write(file, b"\n")


def read_block(source: int) -> bytes:
    """The next bytes of a pipe, some pages; less only at its end."""
    block = os.read(source, BLOCK_BYTES)
    while 0 < len(block) < BLOCK_BYTES and (more := os.read(source, BLOCK_BYTES - len(block))):
        block += more
    return block


def write_all(pieces: Iterable[bytes], target: int) -> bool:
    """Write all; False if the reader has stopped early, which its own error explains."""
    try:
        for piece in pieces:
            write_waiting(target, piece)
    except BrokenPipeError:
        return False
    return True


def through(transform: Callable[[bytes], bytes], source: int, target: int) -> None:
    """Transform each line of a pipe into another pipe or a file, until either ends. Closes both."""
    try:
        write_all(_lines(transform, source), target)
    finally:
        os.close(source)
        os.close(target)


def _lines(transform: Callable[[bytes], bytes], source: int) -> Iterator[bytes]:
    """Complete lines, also the last one, several at a time."""
    rest = b""
    while block := read_block(source):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if lines:
            yield b"\n".join(map(transform, lines)) + b"\n"
    if rest:
        yield transform(rest) + b"\n"


def pass_on(source: int, target: int) -> bool:
    """Move one pipe's contents into another within the kernel; False if the reader has stopped before the end."""
    try:
        while os.splice(source, target, 1 << 20):
            pass
    except BrokenPipeError:
        return False
    return True


class Scan(NamedTuple):
    """The contents of a part of a file: number of `lines`, counting an incomplete last one, and whether any has a TAB."""

    lines: int
    has_tabs: bool


class Digest(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: memoryview, /) -> None: ...


def scan(path: str, offset: int = 0, length: int | None = None, digest: Digest | None = None) -> Scan:
    """Read every byte once, in a buffer that stays in the processor's cache, and add it to `digest`, too.

    Raises `CommandFailed` if bytes are missing.
    """
    lines, has_tabs, last = 0, False, b"\n"
    buffer = bytearray(SCAN_BYTES)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size - offset if length is None else length
        file.seek(offset)
        while left and (count := file.readinto(view[: min(left, SCAN_BYTES)])):
            lines += buffer.count(b"\n", 0, count)
            has_tabs = has_tabs or buffer.find(b"\t", 0, count) >= 0
            if digest is not None:
                digest.update(view[:count])
            last = bytes(view[count - 1 : count])
            left -= count
    if left:
        raise CommandFailed(SHORTER)
    return Scan(lines + (last != b"\n"), has_tabs)
