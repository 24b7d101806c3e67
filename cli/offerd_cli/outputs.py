"""Brings what tasks write from the slaves' file servers to this terminal, while they run and to the last byte.

One thread asks in turn for what is new in each file, more often where something comes.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from offerd.messages import TaskStatus
from offerd_cli.batch import Place
from offerd_cli.sandbox_files import LogReader, SandboxFiles, Unreachable
from offerd_cli.screen import Screen

FAST_S = 0.03
SLOW_S = 0.25
TURN_BYTES = 8 << 20
"""Read from one file before the others get their turn."""
GIVE_UP_S = 5.0
"""How long the file server of an ended task may be away (a slave being restarted) before its output is given up."""


@dataclass(slots=True)
class _Stream:
    """One file of one instance. `partial`: the start of a line that has not ended, where lines get a prefix."""

    index: int
    log: LogReader
    is_stderr: bool
    partial: bytes = b""
    finishing_since: float | None = None
    finished: bool = False


class Follower:
    """Follows the stdout and stderr of instances. Whatever keeps us from doing so ends it; `check` raises that."""

    def __init__(self, screen: Screen, *, instances: int = 1, streams: bool = True) -> None:
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
        self._thread.start()

    def follow(self, index: int, place: Place, status: TaskStatus) -> None:
        """Begin with an instance, whose container is known now; once more changes nothing."""
        with self._news:
            if index in self._streams:
                return
            self._streams[index] = [
                _Stream(index, self._log(place, status, name), name == "stderr")
                for name in ("stdout", "stderr")
            ]
            self._hurry = True
            self._news.notify_all()

    def finish(self, index: int) -> None:
        """The instance has ended: read to the end of its files, then let go of them. One that never began is no matter."""
        with self._news:
            for stream in self._streams.get(index, ()):
                stream.finishing_since = time.monotonic()
            self._hurry = True
            self._news.notify_all()

    def check(self) -> None:
        """Raises `BrokenPipeError` if nobody reads our output any more, and `CannotWrite` if there is no room for it."""
        if self._failure is not None:
            raise self._failure

    def finish_all(self) -> None:
        """Wait until the output of all ended instances is written. Raises what `check` does."""
        with self._news:
            self._news.wait_for(lambda: self._failure is not None or not self._unfinished())
        self.check()

    def close(self) -> None:
        """Stop; what has not been read is left."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join()
        self._files.close()

    def _log(self, place: Place, status: TaskStatus, name: str) -> LogReader:
        return LogReader(self._files, place.files, status.container_id, f"tasks/{status.task_id}/{name}")

    def _unfinished(self) -> bool:
        return any(
            s.finishing_since is not None and not s.finished
            for streams in self._streams.values()
            for s in streams
        )

    # -- the thread -------------------------------------------------------------------------------------------------

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
            except BaseException as error:  # marked: whatever ends this thread, `check` raises it
                with self._news:
                    self._failure = error
                    self._news.notify_all()
                return
            pause_s = FAST_S if moved else min(pause_s * 1.5, SLOW_S)
            with self._news:
                for index in [i for i, group in self._streams.items() if all(s.finished for s in group)]:
                    self._streams[index] = []
                self._news.notify_all()

    def _is_due(self, stream: _Stream) -> bool:
        return self._streams_while_running or stream.finishing_since is not None

    def _advance(self, stream: _Stream) -> int:
        """Write what is new; returns how many bytes. An ended instance's file is read to its end."""
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
            if stream.finishing_since is not None and time.monotonic() - stream.finishing_since > GIVE_UP_S:
                self._give_up(stream.index, error)
        if stream.finished and stream.log.has_gaps:
            self._screen.note("the command wrote faster than we could read; a part of its output is lost")
        if stream.finished and stream.partial:
            self._screen.write(
                self._prefix(stream.index) + stream.partial + b"\n", to_stderr=stream.is_stderr
            )
        return moved

    def _give_up(self, index: int, error: Unreachable) -> None:
        """Both files of an instance are in one place: one note for both."""
        whose = f"of [{index + 1}] " if self._prefixes else ""
        self._screen.note(f"the rest of the output {whose}is out of reach: {error}")
        for stream in self._streams[index]:
            stream.finished = True

    def _write(self, stream: _Stream, content: bytes) -> None:
        if not self._prefixes:
            self._screen.write(content, to_stderr=stream.is_stderr)
            return
        *lines, stream.partial = (stream.partial + content).split(b"\n")
        prefix = self._prefix(stream.index)
        self._screen.write(b"".join(prefix + line + b"\n" for line in lines), to_stderr=stream.is_stderr)

    def _prefix(self, index: int) -> bytes:
        return f"[{index + 1:>{self._digits}}] ".encode()
