"""What a task prints: read from a pipe, written to a file of its directory, rotated at a size."""

from __future__ import annotations

import os

READ_BYTES = 64 << 10
"""Read at once; a pipe holds as much."""
DEFAULT_LOG_BYTES = 10 << 20


class Output:
    """The reading end of one pipe and the file behind it, which is made when the first byte comes.

    `write_fd` is for the child; close it with `close_write_fd` once the child has it. At `limit_bytes` the
    file is renamed to `NAME.1`, over an older one: together they never hold more than twice the limit.
    """

    __slots__ = (
        "_file_bytes",
        "_file_fd",
        "_limit_bytes",
        "_path",
        "error",
        "is_open",
        "read_fd",
        "write_fd",
    )

    def __init__(self, path: str, limit_bytes: int) -> None:
        """Raises `OSError` if there are no more descriptors."""
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_fd, False)
        self._path = path
        self._limit_bytes = limit_bytes
        self._file_fd = -1
        self._file_bytes = 0
        self.is_open = True
        self.error = ""
        """The first reason why some of the output is lost."""

    def close_write_fd(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def read(self) -> bool:
        """Take what is there, at most `READ_BYTES`. False at the end, or if nothing is there."""
        try:
            data = os.read(self.read_fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            return False
        try:
            self._write(memoryview(data))
        except OSError as error:
            # A full disk, a directory that the task removed: its output is lost, not the task.
            self.error = self.error or (error.strerror or str(error))
        return True

    def _write(self, data: memoryview) -> None:
        while data:
            if self._file_fd < 0:
                self._open()
            room = self._limit_bytes - self._file_bytes
            if room <= 0:
                self._rotate()
                continue
            written = os.write(self._file_fd, data[:room])
            self._file_bytes += written
            data = data[written:]

    def _open(self) -> None:
        # No link is followed: the directory belongs to the task.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._file_fd = os.open(self._path, flags, 0o644)
        self._file_bytes = os.fstat(self._file_fd).st_size

    def _rotate(self) -> None:
        os.close(self._file_fd)
        self._file_fd = -1
        os.replace(self._path, self._path + ".1")

    def close(self) -> None:
        """Give the descriptors back. What is still in the pipe is lost."""
        self.is_open = False
        self.close_write_fd()
        os.close(self.read_fd)
        if self._file_fd >= 0:
            os.close(self._file_fd)
            self._file_fd = -1
