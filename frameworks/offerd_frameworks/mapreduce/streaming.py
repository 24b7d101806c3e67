"""Hadoop Streaming: shell commands as mapper, combiner and reducer, connected by pipes.

Every byte of data goes from program to program by the kernel; this process only looks at their stderr, where lines
`reporter:counter:GROUP,NAME,N` count and `reporter:status:TEXT` say what is going on. The rest of stderr is the task's.
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
"""In the task's directory, the one that the job's commands work in: no file of theirs, of whatever name, is one of ours."""
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
    """What the commands said on their stderr."""

    counters: Counter[str] = field(default_factory=Counter)
    status: str = ""
    last_line: str = ""

    def hear(self, line: bytes) -> bool:
        """Take one line of stderr; False if it was not for us."""
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
    """One running process of a pipeline: a command of the job (`heard`), or a tool of ours."""

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
        """A string is for the shell, in `COMMANDS`. The descriptors given are the child's alone: pipes are closed here.

        `any_status`: however it exits, that is no failure; to be killed is one. `ended_by`: without this file in `COMMANDS`
        it has not done all, whatever its status. `umask`: None is ours.
        """
        self.what = what
        self._any_status = any_status
        self._ended_by = ended_by
        self._is_tool = not isinstance(words, str)

        def start(marked: Mapping[str, str]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                words,
                shell=not self._is_tool,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=marked,
                cwd=None if self._is_tool else COMMANDS,
                umask=-1 if umask is None else umask,
            )

        self._process = leftovers.start(start, environment, is_tool=self._is_tool)
        self._reporter = reporter
        self._telling = ""
        """Of its stderr: a tool's first line says why, and the last one of a program that ends with a traceback."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        try:
            self._listener.start()
            # Not only when somebody waits for it: whoever writes to what it has left would wait before.
            self._ending = Pump(partial(leftovers.reap, self._process))
        except (RuntimeError, CommandFailed):
            self._process.kill()
            self._process.wait()
            if self._listener.ident is None and self._process.stderr is not None:  # nobody else will
                self._process.stderr.close()
            raise CommandFailed(NO_THREAD) from None

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if not self._reporter.hear(line):
                    if not (self._is_tool and self._telling):
                        self._telling = (
                            line.decode(errors="replace").strip()[:LAST_WORDS_BYTES] or self._telling
                        )
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()

    def reap(self) -> int:
        """Wait for its end, whatever that is like; the status."""
        self._ending.join()
        self._listener.join()
        return self._process.wait()

    def wait(self, *, may_be_cut_off: bool = False) -> None:
        """Raises `CommandFailed`. `may_be_cut_off`: its reader may have had enough, and ended well before it."""
        status = self.reap()
        has_ended = not self._ended_by or os.path.exists(os.path.join(COMMANDS, self._ended_by))
        if status == 0 and not has_ended:
            raise CommandFailed(
                f"the {self.what} exited before it had done all: {self._telling}".rstrip(": ")
            )
        if status == 0 or (may_be_cut_off and status == -signal.SIGPIPE):
            return
        if self._any_status and status > 0 and has_ended:
            sys.stderr.write(f"the {self.what} ended with status {status}, which is no failure in this job\n")
            return
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise CommandFailed(f"the {self.what} {how}" + (f": {self._telling}" if self._telling else ""))


def job_environment(job: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    """What the commands find: this process's own, their working directory first in PATH, and Hadoop's variables.

    A property `mapreduce.job.name` is `mapreduce_job_name`; the names of before Hadoop 2 that scripts still use come with it.
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
    """GNU sort within so much memory; it spills into the working directory by itself.

    Where no line has a TAB the whole line is its key, and comparing lines as they are takes two thirds of the time.
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
    """GNU sort as a merge of sorted files."""
    order = BY_KEY if by_key else ()
    return ["sort", "-m", *order, f"--batch-size={MERGE_AT_ONCE}", "-T", os.getcwd(), "--", *files]


def sort_environment() -> dict[str, str]:
    return {**os.environ, **SORT_ENVIRONMENT}


def pipe() -> tuple[int, int]:
    """A large one, where the kernel lets us have it: programs at its ends take turns less often."""
    ends = os.pipe()
    with contextlib.suppress(
        PermissionError
    ):  # this user's pipes hold much already (pipe-user-pages-soft, pipe(7))
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return ends


class Pump:
    """Does something in a thread of its own; what goes wrong is raised by `join`, in the thread that waits for it.

    Raises `CommandFailed` if there is no thread for it.
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
        except BaseException as error:  # marked: whatever it is, `join` raises it
            self._error = error

    def wait(self) -> None:
        """Wait for its end, whatever that is like."""
        self._thread.join()

    def join(self) -> None:
        """Wait for its end. Raises whatever has stopped it."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def write_waiting(target: int, data: bytes | memoryview) -> None:
    """All of it, also where somebody who has this end, too, has made it non-blocking. Raises `OSError`."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(target, left) :]
        except BlockingIOError:
            room = select.poll()
            room.register(target, select.POLLOUT)
            room.poll()


class WaitingOutput(io.RawIOBase):
    """A descriptor of our own whose writes are whole."""

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
    """Move a part of a file into a pipe, and write `ending`; a reader that has had enough is no error. Closes `target`."""
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
    """Write all of it into a pipe, and end the last line where nobody did; how many there are. Closes `source`.

    A reader of the pipe that has had enough is no error, and all is read nevertheless.
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
    """Copy one pipe into another until its end, and end the last line where nobody did. Closes `source`.

    The kernel could move the bytes, but would not show us the last of them.
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
        pass  # whoever reads there says why it ended
    finally:
        os.close(source)


def end_last_line(file: int) -> None:
    """Where a command has left the last line of its output, this file, without an end."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.lseek(file, 0, os.SEEK_END)
        os.write(file, b"\n")


def read_block(source: int) -> bytes:
    """What comes next out of a pipe, some pages of it; less only at its end."""
    block = os.read(source, BLOCK_BYTES)
    while 0 < len(block) < BLOCK_BYTES and (more := os.read(source, BLOCK_BYTES - len(block))):
        block += more
    return block


def write_all(pieces: Iterable[bytes], target: int) -> bool:
    """Write all; False if the reader has had enough before. Whoever reads there says why it ended."""
    try:
        for piece in pieces:
            write_waiting(target, piece)
    except BrokenPipeError:
        return False
    return True


def through(transform: Callable[[bytes], bytes], source: int, target: int) -> None:
    """Lines out of a pipe, each transformed, into another or a file, until one of them ends. Closes both."""
    try:
        write_all(_lines(transform, source), target)
    finally:
        os.close(source)
        os.close(target)


def _lines(transform: Callable[[bytes], bytes], source: int) -> Iterator[bytes]:
    """Ended, also the last one, and some together."""
    rest = b""
    while block := read_block(source):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if lines:
            yield b"\n".join(map(transform, lines)) + b"\n"
    if rest:
        yield transform(rest) + b"\n"


def pass_on(source: int, target: int) -> bool:
    """Move what comes out of one pipe into another within the kernel; False if the reader has had enough before the end."""
    try:
        while os.splice(source, target, 1 << 20):
            pass
    except BrokenPipeError:
        return False
    return True


class Scan(NamedTuple):
    """What stands in a part of a file: `lines`, also one that has no end, and whether any has a TAB."""

    lines: int
    has_tabs: bool


class Digest(Protocol):
    """As `hashlib` makes them."""

    def update(self, data: memoryview, /) -> None: ...


def scan(path: str, offset: int = 0, length: int | None = None, digest: Digest | None = None) -> Scan:
    """Look at every byte once, in a buffer that stays in the processor's cache. They go into `digest`, too.

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
