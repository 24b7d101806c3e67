"""Brings the output of tasks from the slaves' file servers to this terminal, while they run and to the last byte.

One thread asks for what is new in each file, more often where something comes. It reports what it has read to the executor,
which keeps the rest until then. It compares with the size that the task reports: `lost` is what it has missed.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from offerd.errors import OfferdError
from offerd.messages import TaskStatus
from offerd.tasks.sandbox_files import SandboxFiles, SandboxLog, Unreachable, patience_s
from offerd.tasks.task_output import OutputRead
from offerd.workers import start_thread
from offerd_cli.batch import Place
from offerd_cli.screen import Screen

AT_ONCE_S = 0.005
"""Pause after the executor of a command that may have waited for us was sent what we have read."""
FAST_S = 0.03
SLOW_S = 0.25
TURN_BYTES = 8 << 20
"""Bytes read from one file before the next file has its turn."""
COPY_BYTES = 1 << 20
LINE_BYTES = 64 << 10
"""Largest part of an unfinished line that is kept in memory."""
NOTE_AFTER_S = 2.0
"""How long a file server must be away before the user is informed of the wait."""
SAY_AGAIN_S = 1.0
LONGEST_SAY_AGAIN_S = 10.0
"""A report of what was read may be lost on its way, so it is repeated, less and less often."""


class _Line:
    """The start of an unfinished line. A long one is kept in a file: there may be many, and some may never end."""

    def __init__(self) -> None:
        self._begun = b""
        self._file: IO[bytes] | None = None

    def __bool__(self) -> bool:
        return bool(self._begun) or self._file is not None

    def add(self, content: bytes) -> None:
        """Raises `OfferdError` if there is no room for it."""
        if self._file is None and len(self._begun) + len(content) <= LINE_BYTES:
            self._begun += content
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed when it has been taken)
                self._file.write(self._begun)
                self._begun = b""
            self._file.write(content)
        except OSError as error:
            where = tempfile.gettempdir()
            raise OfferdError(f"a long line cannot be kept in {where}: {error.strerror}") from None

    def take(self) -> Iterator[bytes]:
        """Return all of it, and forget it."""
        if self._file is None:
            yield self._begun
            self._begun = b""
            return
        with self._file as file:
            self._file = None
            file.seek(0)
            while content := file.read(COPY_BYTES):
                yield content

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@dataclass(slots=True)
class _Stream:
    """One file of one instance. `line`: the unfinished line, if lines get a prefix."""

    index: int
    place: Place
    log: SandboxLog
    is_stderr: bool
    finishing_since: float | None = None
    finished: bool = False
    line: _Line = field(default_factory=_Line)
    written_bytes: int | None = None
    """The total size when the instance has ended; None if it is not known."""
    is_away_noted: bool = False

    @property
    def name(self) -> str:
        return "stderr" if self.is_stderr else "stdout"


@dataclass(slots=True)
class _Said:
    """What was last reported to an instance's executor."""

    status: TaskStatus
    read: OutputRead
    again_at: float = 0.0
    again_s: float = SAY_AGAIN_S


def _say_nothing(_status: TaskStatus, _read: OutputRead) -> None:
    """For readers of files that are kept whole: nothing need be reported."""


class Follower:
    """Follows the stdout and stderr of instances. An error ends it, and `check` raises that error.

    `say_read` reports to an instance's executor how much of its output was read.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        instances: int = 1,
        streams: bool = True,
        say_read: Callable[[TaskStatus, OutputRead], object] = _say_nothing,
    ) -> None:
        self.lost: set[int] = set()
        """Instances with missing output; how much is missing has been printed."""
        self._say_read = say_read
        self._said: dict[int, _Said] = {}
        self._failure: BaseException | None = None
        self._screen = screen
        self._prefixes = instances > 1
        self._streams_while_running = streams
        self._digits = len(str(instances))
        self._files = SandboxFiles()
        self._streams: dict[int, list[_Stream]] = {}
        self._news = threading.Condition()
        self._hurry = False
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="offerd-outputs", daemon=True)
        start_thread(self._thread)

    def follow(self, index: int, place: Place, status: TaskStatus) -> None:
        """Start to follow an instance when its container is known; calling it again changes nothing."""
        with self._news:
            if index in self._streams:
                return
            self._streams[index] = [
                _Stream(index, place, self._log(place, status, name), name == "stderr")
                for name in ("stdout", "stderr")
            ]
            self._said[index] = _Said(status, OutputRead(status.task_id))
            self._hurry = True
            self._news.notify_all()

    def finish(self, index: int, status: TaskStatus) -> None:
        """The instance has ended: read its files to the end, then close them. An instance never followed is ignored."""
        with self._news:
            for stream in self._streams.get(index, ()):
                stream.finishing_since = time.monotonic()
                if (written := status.output) is not None:
                    stream.written_bytes = written.stderr_bytes if stream.is_stderr else written.stdout_bytes
            self._hurry = True
            self._news.notify_all()

    def check(self) -> None:
        """Raises `BrokenPipeError` if nobody reads our output, and `CannotWrite` if there is no room for it."""
        if self._failure is not None:
            raise self._failure

    def finish_all(self) -> None:
        """Wait until the output of all ended instances is written. Raises what `check` raises."""
        with self._news:
            self._news.wait_for(lambda: self._failure is not None or not self._unfinished())
        self.check()

    def close(self) -> None:
        """Stop without reading the rest."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join()
        for streams in self._streams.values():
            for stream in streams:
                stream.line.close()
        self._files.close()

    def _log(self, place: Place, status: TaskStatus, name: str) -> SandboxLog:
        return SandboxLog(self._files, place.files, status.container_id, f"tasks/{status.task_id}/{name}")

    def _unfinished(self) -> bool:
        return any(
            s.finishing_since is not None and not s.finished
            for streams in self._streams.values()
            for s in streams
        )

    # -- The thread -------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        pause_s = FAST_S
        while True:
            with self._news:
                self._news.wait_for(lambda: self._hurry or self._closing, pause_s if self._streams else None)
                if self._closing:
                    return
                self._hurry = False
                streams = [
                    stream for group in self._streams.values() for stream in group if not stream.finished
                ]
            try:
                moved = sum(self._advance(stream) for stream in streams if self._is_due(stream))
                has_reported = self._report_what_was_read()
            except BaseException as error:  # marked: whatever ends this thread is raised by `check`
                with self._news:
                    self._failure = error
                    self._news.notify_all()
                return
            pause_s = AT_ONCE_S if has_reported else FAST_S if moved else min(pause_s * 1.5, SLOW_S)
            with self._news:
                for index in [i for i, group in self._streams.items() if all(s.finished for s in group)]:
                    self._streams[index] = []
                    self._said.pop(index, None)
                self._news.notify_all()

    def _is_due(self, stream: _Stream) -> bool:
        return self._streams_while_running or stream.finishing_since is not None

    def _advance(self, stream: _Stream) -> int:
        """Write what is new; returns the number of bytes. An ended instance's file is read to its end."""
        is_last = stream.finishing_since is not None
        moved = 0
        try:
            while data := stream.log.read():
                moved += len(data)
                self._write(stream, data)
                if moved >= TURN_BYTES or self._closing:
                    break
            else:
                stream.finished = is_last
        except Unreachable as error:
            self._away(stream, error)
        if stream.finished:
            self._compare(stream)
            if stream.line:
                self._end_line(stream)
        return moved

    def _away(self, stream: _Stream, error: Unreachable) -> None:
        """The file server of an ended instance does not answer. One note will do for both of its files."""
        if stream.finishing_since is None:
            return
        waited_s = time.monotonic() - stream.finishing_since
        whose = f"of [{stream.index + 1}] " if self._prefixes else ""
        both = self._streams[stream.index]
        if all(each.written_bytes == each.log.received_bytes for each in both):
            for each in both:
                each.finished = True
        elif waited_s >= patience_s(stream.place.files):
            unknown = [each.written_bytes is None for each in both if not each.finished]
            if any(unknown):
                self._lose(stream.index, f"the rest of the output {whose}cannot be reached: {error}")
            elif missing := sum(each.log.missing_bytes(each.written_bytes or 0) for each in both):
                self._lose(
                    stream.index,
                    f"the rest of the output {whose}cannot be reached, {missing} bytes: {error}",
                )
            for each in both:
                each.finished = True
                each.written_bytes = each.log.received_bytes  # it has been reported
        elif waited_s >= NOTE_AFTER_S and not any(each.is_away_noted for each in both):
            stream.is_away_noted = True
            self._screen.note(f"waiting for the rest of the output {whose}".rstrip() + f": {error}")

    def _compare(self, stream: _Stream) -> None:
        """Everything there has been read: compare it with the size that the instance has reported."""
        whose = f"[{stream.index + 1}]'s" if self._prefixes else "the command's"
        written = stream.written_bytes
        if written is None:
            if stream.log.has_gaps:
                self._lose(stream.index, f"a part of {whose} {stream.name} is lost")
        elif missing := stream.log.missing_bytes(written):
            self._lose(stream.index, f"{missing} of {written} bytes of {whose} {stream.name} are lost")

    def _lose(self, index: int, text: str) -> None:
        self.lost.add(index)
        self._screen.note(text)

    def _report_what_was_read(self) -> bool:
        """Report to executors what was read; returns whether there was anything new."""
        now, has_reported = time.monotonic(), False
        with self._news:
            due = [(said, self._streams[index]) for index, said in self._said.items() if self._streams[index]]
        for said, (stdout, stderr) in due:
            read = OutputRead(said.status.task_id, stdout.log.free_bytes, stderr.log.free_bytes)
            if read != said.read:
                said.again_s, has_reported = SAY_AGAIN_S, True
            elif now < said.again_at or not (read.stdout_bytes or read.stderr_bytes):
                continue
            else:
                said.again_s = min(2 * said.again_s, LONGEST_SAY_AGAIN_S)
            said.read, said.again_at = read, now + said.again_s
            if stdout.finishing_since is None:
                self._say_read(said.status, read)
        return has_reported

    def _write(self, stream: _Stream, content: bytes) -> None:
        if not self._prefixes:
            self._screen.write(content, to_stderr=stream.is_stderr)
            return
        begun, end, content = content.partition(b"\n")
        stream.line.add(begun)
        if not end:
            return
        self._end_line(stream)
        *lines, begun = content.split(b"\n")
        stream.line.add(begun)
        prefix = self._prefix(stream.index)
        self._screen.write(b"".join(prefix + line + b"\n" for line in lines), to_stderr=stream.is_stderr)

    def _end_line(self, stream: _Stream) -> None:
        """Write a line that is complete; short ones at once."""
        due = self._prefix(stream.index)
        for content in stream.line.take():
            if len(due) > LINE_BYTES:
                self._screen.write(due, to_stderr=stream.is_stderr)
                due = b""
            due += content
        self._screen.write(due + b"\n", to_stderr=stream.is_stderr)

    def _prefix(self, index: int) -> bytes:
        return f"[{index + 1:>{self._digits}}] ".encode()
