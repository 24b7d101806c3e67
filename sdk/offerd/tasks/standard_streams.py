"""Standard streams for programs: they write everything, wait for a slow reader, always exist, and can show every character.

Python's own do not. With `PYTHONUNBUFFERED` a write of which the kernel takes only a part counts as done; a write to a pipe
that somebody has made non-blocking fails instead of waiting; a closed stream is None; and a character that the locale's
encoding lacks raises an error.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import io
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAIN_SIGNS = "offerd.plain_signs"
"""Name of the error handler for characters that a stream's encoding lacks."""
_PLAIN = {
    "…": "...",
    "–": "-",
    "—": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "·": ".",
    "×": "x",
    "→": "->",
}
_BLOCKS = range(0x2580, 0x25A0)
_LINES = range(0x2500, 0x2580)


class OutputFailed(OSError):
    """A standard stream cannot be written, and not because its reader is gone (`BrokenPipeError`): a full disk, for example."""


def write_all(fd: int, data: ReadableBuffer) -> None:
    """Write all of it; if a non-blocking pipe is full, wait until there is room. Raises `OSError`."""
    left = memoryview(data).cast("B")
    while left:
        left = left[_write_some(fd, left) :]


def _write_some(fd: int, data: ReadableBuffer) -> int:
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            room = select.poll()
            room.register(fd, select.POLLOUT)
            room.poll()


class _Descriptor(io.RawIOBase):
    """A file descriptor to write to, which this object does not own."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self.mode = "wb"
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as many bytes as the kernel takes; `BufferedWriter` calls again for the rest."""
        try:
            return _write_some(self._fd, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputFailed(error.errno, error.strerror) from None


def text_stream(
    fd: int, name: str, *, encoding: str = "utf-8", errors: str = PLAIN_SIGNS, line_buffering: bool = False
) -> TextIO:
    """A stream to write to, which writes everything and waits if it must. `errors` may be any that Python knows."""
    raw = io.BufferedWriter(_Descriptor(fd, name))
    return io.TextIOWrapper(raw, encoding, errors, line_buffering=line_buffering)


def settle() -> None:
    """Replace this process's standard streams by such streams. To be called first in a program: closed descriptors are opened,
    which works only while their numbers are free.
    """
    open_missing()
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        before: io.TextIOWrapper | None = getattr(sys, name)
        if before is not getattr(sys, f"__{name}__"):
            continue  # somebody has replaced it to capture the output
        if before is None:
            stream = text_stream(fd, f"<{name}>")
        else:
            before.flush()
            # With PYTHONUNBUFFERED Python's own stream writes through; ours then writes each line at once.
            is_eager = before.line_buffering or before.write_through
            stream = text_stream(fd, f"<{name}>", encoding=before.encoding, line_buffering=is_eager)
        setattr(sys, name, stream)


def open_missing() -> None:
    """Open /dev/null for each of descriptors 0 to 2 that is closed; otherwise the next file opened would take its place."""
    for fd in range(3):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:  # cannot happen while there is only one thread: all lower ones are open
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def holds_input(fd: int = 0) -> bool:
    """Whether there may be input: not from a terminal, /dev/null, or a file or pipe at its end."""
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        # Tried by reading, as files in /proc have no size. A file opened only for writing gives no input.
        try:
            return bool(os.pread(fd, 1, os.lseek(fd, 0, os.SEEK_CUR)))
        except OSError as error:
            return error.errno != errno.EBADF
    if stat.S_ISCHR(found.st_mode):
        return not os.isatty(fd) and found.st_rdev != os.stat(os.devnull).st_rdev
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        ends = select.poll()
        ends.register(fd, select.POLLIN | select.POLLRDHUP)
        said = dict(ends.poll(0)).get(fd, 0)
        return not said & (select.POLLHUP | select.POLLRDHUP) or bool(_waiting_bytes(fd))
    return True


def _waiting_bytes(fd: int) -> int:
    import array
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def _plain_signs(error: UnicodeError) -> tuple[str, int]:
    """A replacement for characters that an encoding lacks: something similar, or their escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    if (known := _PLAIN.get(letter)) is not None:
        return known
    if ord(letter) in _BLOCKS:
        return "#"
    if ord(letter) in _LINES:
        return "-"
    return letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(PLAIN_SIGNS, _plain_signs)
