"""What a working command shows: its tasks' bytes on stdout and stderr, notes, and on a terminal one line of progress.

The progress line is the last one on stderr. It is erased before anything else is written, and drawn again afterwards. So
output and progress share a terminal, and a redirected stdout gets only output. Methods may be called from any thread.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Protocol

from offerd.values.screen_text import printable
from offerd_cli.bars import bar

LINE_LIMIT = 2000
"""Longest line for people, in characters: a peer may have written a part of it."""
_REDRAW_S = 0.1
_WIPE = b"\r\x1b[K"
_BAR_WIDTH = 28


def one_line(text: str) -> str:
    """The text as one line: line ends and control characters from a peer or a file name are escaped."""
    return printable(" ".join(text.split()), LINE_LIMIT)


def _encoded(text: str) -> bytes:
    """The text as bytes for stderr, as far as its encoding goes."""
    return text.encode(sys.stderr.encoding, sys.stderr.errors or "strict")


def say(text: str, *, to_stdout: bool = False) -> None:
    """Print one line for people."""
    print(one_line(text), file=sys.stdout if to_stdout else sys.stderr)


def about(name: str, error: Exception) -> str:
    """The error as one of several names met it: with the name in front, unless its text has the name as a word."""
    has_name = re.search(rf"(?<!\S){re.escape(printable(name))}(?![\w.@-])", str(error))
    return str(error) if has_name else f"{name}: {error}"


class CannotWrite(OSError):
    """Our stdout or stderr cannot be written, for example because the disk is full; not because nobody reads. `who` wrote."""

    def __init__(self, who: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.who = who


class Noted(Protocol):
    """Something that shows notes: a `Screen`, or progress bars."""

    def note(self, text: str) -> None: ...


class NoteHandler(logging.Handler):
    """Shows log messages of libraries as notes, so that they do not disturb the progress line."""

    def __init__(self, screen: Noted) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the main thread gets the same error, and ends
            self._screen.note(record.getMessage())


@contextmanager
def logged_to(screen: Noted) -> Iterator[None]:
    """In this context, warnings of the driver and of the operator client are notes on this screen."""
    logs, handler = (
        [logging.getLogger(name) for name in ("offerd.driver", "offerd.operator")],
        NoteHandler(screen),
    )
    for log in logs:
        log.addHandler(handler)
    try:
        yield
    finally:
        for log in logs:
            log.removeHandler(handler)


class Screen:
    """Writes to this process's stdout and stderr. `who` precedes notes. Methods that write raise `CannotWrite`."""

    def __init__(self, who: str, *, progress: bool = True) -> None:
        self._who = who
        self._lock = threading.Lock()
        self._is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shows_progress = progress and self._is_terminal
        self._has_colour = self._shows_progress and not os.environ.get("NO_COLOR")
        self._drawn = False
        self._at_line_start = True
        self._drawn_at = 0.0
        self._started_at = time.monotonic()

    @property
    def shows_progress(self) -> bool:
        return self._shows_progress

    def write(self, data: bytes, *, to_stderr: bool = False) -> None:
        """Write a task's output unchanged: its contents are the user's affair. Raises `BrokenPipeError` when nobody reads any
        more."""
        if not data:
            return
        stream = sys.stderr.buffer if to_stderr else sys.stdout.buffer
        with self._lock:
            self._wipe()
            self._write_all(stream, data)
            if stream.isatty():
                self._at_line_start = data.endswith(b"\n")

    def note(self, text: str) -> None:
        """Write one line for the user on stderr."""
        with self._lock:
            self._wipe()
            start = b"" if self._at_line_start else b"\n"
            self._write_all(sys.stderr.buffer, start + _encoded(f"{self._who}: {one_line(text)}\n"))
            self._at_line_start = True

    def leave_line(self) -> None:
        """After Ctrl-C: the terminal has echoed ^C where our next line would begin."""
        with self._lock:
            self._wipe()
            if sys.stderr.isatty():
                self._write_all(sys.stderr.buffer, b"\n")
            self._at_line_start = True

    def waiting(self, text: str) -> bool:
        """Show this in place of the progress line until something else is written; where there is one, `progress` must show it.
        False: nothing can be erased here, so a note is needed."""
        if not self._is_terminal or self._shows_progress:
            return self._shows_progress
        with self._lock:
            line = f"{self._who}: {one_line(text)}"[: max(shutil.get_terminal_size().columns - 1, 0)]
            self._write_all(sys.stderr.buffer, (_WIPE if self._at_line_start else b"\n") + _encoded(line))
            self._drawn = self._at_line_start = True
        return True

    def progress(
        self, done: int, total: int, *, running: int = 0, failed: int = 0, text: str = "", final: bool = False
    ) -> None:
        """Draw the progress line, at most ten times a second (`final`: always)."""
        if not self._shows_progress:
            return
        now = time.monotonic()
        with self._lock:
            if not final and (now - self._drawn_at < _REDRAW_S or not self._at_line_start):
                return
            self._drawn_at = now
            line = self._line(done, total, running, failed, text, now - self._started_at)
            self._write_all(sys.stderr.buffer, _WIPE + _encoded(line))
            self._drawn = True

    def end_progress(self, *, keep: bool = False) -> None:
        """Erase the progress line, or keep it as the last line."""
        with self._lock:
            if keep and self._drawn:
                self._write_all(sys.stderr.buffer, b"\n")
                self._drawn = False
            self._wipe()

    def _write_all(self, stream: BinaryIO, data: bytes) -> None:
        try:
            stream.write(data)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CannotWrite(self._who, error) from None

    def _wipe(self) -> None:
        if self._drawn:
            self._write_all(sys.stderr.buffer, _WIPE)
            self._drawn = False

    def _line(self, done: int, total: int, running: int, failed: int, text: str, elapsed_s: float) -> str:
        from offerd_cli.units import format_duration  # main imports us, and --help must be fast

        drawn = bar(done / total if total else 0.0, _BAR_WIDTH)
        words = [f"{done}/{total}"]
        if running:
            words.append(f"{running} running")
        if failed:
            words.append(f"{failed} failed")
        words.append(format_duration(elapsed_s))
        if 0 < done < total and elapsed_s > 1:
            words.append(
                f"{done / elapsed_s:.0f}/s, {format_duration(elapsed_s / done * (total - done))} left"
            )
        if text:
            words.append(one_line(text))
        width = shutil.get_terminal_size().columns - _BAR_WIDTH - 2
        rest = "  ".join(words)[: max(width, 0)]
        return f"\x1b[36m{drawn}\x1b[0m {rest}" if self._has_colour else f"{drawn} {rest}"
