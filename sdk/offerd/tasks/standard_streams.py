"""The standard streams of a program, as Python does not make them: whole, waiting, never missing, and able to show every text.

Python's own are not all of that. With `PYTHONUNBUFFERED` a write that the kernel takes only a part of counts as done; one to a
pipe that somebody has made non-blocking fails where it should wait; a stream that was closed is None; and a letter that the
locale has no code for is a traceback.
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
"""Name of the way in which text is written that a stream's encoding cannot hold."""
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
    """A standard stream takes no more, for another reason than that nobody reads it (`BrokenPipeError`): a full disk."""


def write_all(fd: int, data: ReadableBuffer) -> None:
    """Write all of it, also to a pipe that is non-blocking: then wait until there is room. Raises `OSError`."""
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
    """A descriptor to write to, which it does not own."""

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
        """As many bytes as the kernel takes; `BufferedWriter` asks again for the rest."""
        try:
            return _write_some(self._fd, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputFailed(error.errno, error.strerror) from None


def text_stream(
    fd: int, name: str, *, encoding: str = "utf-8", errors: str = PLAIN_SIGNS, line_buffering: bool = False
) -> TextIO:
    """To write to: whole, and waiting where it must. `errors` may be any that Python knows."""
    raw = io.BufferedWriter(_Descriptor(fd, name))
    return io.TextIOWrapper(raw, encoding, errors, line_buffering=line_buffering)


def settle() -> None:
    """Make this process's standard streams so. For the beginning of a program: descriptors that were closed are opened, as
    long as their numbers are free.
    """
    open_missing()
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        before: io.TextIOWrapper | None = getattr(sys, name)
        if before is not getattr(sys, f"__{name}__"):
            continue  # somebody has put another in its place, to hear what is written
        if before is None:
            stream = text_stream(fd, f"<{name}>")
        else:
            before.flush()
            # PYTHONUNBUFFERED makes Python's own write through: what is whole and at once for us is a line.
            is_eager = before.line_buffering or before.write_through
            stream = text_stream(fd, f"<{name}>", encoding=before.encoding, line_buffering=is_eager)
        setattr(sys, name, stream)


def open_missing() -> None:
    """Have /dev/null where descriptors 0 to 2 are closed: else what is opened next would be taken for one of them."""
    for fd in range(3):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:  # cannot be while we are the only thread: those below are open
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def holds_input(fd: int = 0) -> bool:
    """Whether somebody may have something to say there: false for a terminal, /dev/null, and what is at its end."""
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        # By what comes, as files of /proc have no size. One that is open for writing alone has nothing to say.
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
    """What stands for letters that an encoding does not have: something like them, or their escape."""
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
