"""A task's output: read from a pipe, written to a file in its directory, and rotated at a size.

Output that the label `offerd.keep_output` (`offerd/tasks/task_output.py`) asks to be kept is never rotated away: the pipe is
not read until the reader has caught up, or the file grows. Small output of a task labelled `offerd.inline_output=1` is not
written to a file: it is sent with the last status (`offerd/tasks/series.py`).
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from offerd.tasks.task_output import UNTIL_READ

READ_BYTES = 64 << 10
"""Most bytes in one read; a pipe holds as many."""
INLINE_BYTES = 4 << 10
"""Most output of one program, both streams together, that a status may carry: it passes a journal and three processes."""


class Held:
    """Output of one task, kept in memory as long as both streams together are small."""

    __slots__ = ("_is_spilled", "_parts", "_room")

    def __init__(self) -> None:
        self._parts: dict[Output, bytearray] = {}
        self._room = INLINE_BYTES
        self._is_spilled = False

    def add(self, output: Output) -> None:
        self._parts[output] = bytearray()

    def take(self, output: Output, data: memoryview) -> bool:
        """Keep this data. False if it is too much: then all of it goes to the files, now and later."""
        if self._is_spilled:
            return False
        self._room -= len(data)
        if self._room >= 0:
            self._parts[output] += data
            return True
        self._is_spilled = True
        for each, part in self._parts.items():
            each.write(memoryview(part))
        return False

    def outputs(self) -> tuple[bytes, bytes] | None:
        """The output on stdout and on stderr; None if it is in files."""
        if self._is_spilled:
            return None
        stdout, stderr = self._parts.values()
        return bytes(stdout), bytes(stderr)


class Output:
    """The reading end of one pipe, and a file, which is made when the first byte comes.

    `write_fd` is for the child; close it with `close_write_fd` once the last child has it. At `limit_bytes` the file is renamed
    to `NAME.1`, replacing an older one, so that both together never hold more than twice the limit, unless `keeps` (the value
    of the label, "" without one) forbids that. `held`, if given, gets the first output.
    """

    __slots__ = (
        "_file_bytes",
        "_file_fd",
        "_held",
        "_keeps",
        "_limit_bytes",
        "_path",
        "_read_to",
        "_rotated_bytes",
        "error",
        "is_open",
        "is_stalled",
        "is_watched",
        "read_fd",
        "write_fd",
        "written_bytes",
    )

    def __init__(self, path: str, limit_bytes: int, held: Held | None = None, keeps: str = "") -> None:
        """Raises `OSError` if no descriptors are left."""
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_fd, False)
        self._path = path
        self._held = held
        if held is not None:
            held.add(self)
        self._limit_bytes = limit_bytes
        self._file_fd = -1
        self._file_bytes = 0
        self._keeps = keeps
        self._rotated_bytes = 0
        """Bytes in files that were renamed, even if they are gone."""
        self._read_to = 0
        """How many bytes of the output in files the reader has read."""
        self.written_bytes = 0
        """Bytes that the program has written to this stream: all that came through the pipe."""
        self.is_stalled = False
        """The program must wait for the reader."""
        self.is_open = True
        self.is_watched = False
        """The loop watches the pipe."""
        self.error = ""
        """The first reason why some of the output was lost."""

    def go_on(self, held: Held | None) -> None:
        """Use the same pipe for the next program, after one whose output did not go into the file."""
        self._held = held
        if held is not None:
            held.add(self)
        self.error = ""
        self.written_bytes = 0
        # The last program may have changed this for all that share the pipe.
        os.set_blocking(self.write_fd, True)

    def close_write_fd(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def read(self) -> bool:
        """Read at most `READ_BYTES`. False at the end, if there is nothing, or if the program must wait for the reader."""
        if self._file_bytes >= self._limit_bytes and self._keeps == UNTIL_READ and not self._may_rotate():
            self.is_stalled = True
            return False
        return self._take(READ_BYTES) > 0

    def drain(self) -> None:
        """Read what is in the pipe now, even if other processes hold its other end and go on writing."""
        (left,) = struct.unpack("i", fcntl.ioctl(self.read_fd, termios.FIONREAD, b"\0\0\0\0"))
        while left > 0 and (taken := self._take(min(left, READ_BYTES))):
            left -= taken

    def was_read(self, read_to: int) -> bool:
        """The reader has read so many bytes. Returns whether a program that had to wait may go on."""
        self._read_to = max(self._read_to, read_to)
        if not self.is_stalled or not self._may_rotate():
            return False
        self.is_stalled = False
        return True

    def _take(self, most: int) -> int:
        try:
            data = os.read(self.read_fd, most)
        except BlockingIOError:
            return 0
        if not data:
            return 0
        self.written_bytes += len(data)
        view = memoryview(data)
        try:
            if self._held is None or not self._held.take(self, view):
                self.write(view)
        except OSError as error:
            # On a full disk, or if the task has removed its directory, the output is lost, but not the task.
            self.error = self.error or (error.strerror or str(error))
        return len(data)

    def write(self, data: memoryview) -> None:
        """Write to the file. Raises `OSError`."""
        while data:
            if self._file_fd < 0:
                self._open()
            room = self._limit_bytes - self._file_bytes
            if room <= 0 and self._may_rotate():
                self._rotate()
                continue
            written = os.write(self._file_fd, data[:room] if room > 0 else data)
            self._file_bytes += written
            data = data[written:]

    def _may_rotate(self) -> bool:
        """Whether `NAME.1` may be replaced."""
        return not self._keeps or (self._keeps == UNTIL_READ and self._read_to >= self._rotated_bytes)

    def _open(self) -> None:
        # No symbolic link is followed: the directory belongs to the task.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._file_fd = os.open(self._path, flags, 0o600)
        self._file_bytes = os.fstat(self._file_fd).st_size

    def _rotate(self) -> None:
        os.close(self._file_fd)
        self._file_fd = -1
        os.replace(self._path, self._path + ".1")
        self._rotated_bytes += self._file_bytes
        self._file_bytes = 0

    def close(self) -> None:
        """Close the descriptors; what is still in the pipe is lost. May be called twice."""
        if not self.is_open:
            return
        self.is_open = False
        self.close_write_fd()
        os.close(self.read_fd)
        if self._file_fd >= 0:
            os.close(self._file_fd)
            self._file_fd = -1
