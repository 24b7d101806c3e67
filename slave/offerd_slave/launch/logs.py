"""Copy an output stream of an executor from a pipe into a file of its sandbox, which never grows past its limit."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

CHUNK_BYTES = 64 << 10
"""Size of one read: as much as a pipe holds."""
NOTE_BYTES = 32
"""Room for the file `NAME.gone`."""

_DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


class RotatedLog:
    """Copies a pipe into the file `NAME`, which becomes `NAME.1` when it has half of `limit_bytes`: both together stay below
    that. `NAME.gone` holds how many bytes were in older parts, which are deleted, so that readers know what is missing.

    The directory belongs to the user that writes into the pipe. So no file found there is ever opened, as it could be a link
    to another user's file; files are always made anew. Output that the disk refuses is dropped, and the log says so: the
    writer never waits.
    """

    def __init__(self, pipe: int, directory: int, name: str, limit_bytes: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self._directory = directory
        self._name = name
        self._part_bytes = max(1, (limit_bytes - NOTE_BYTES) // 2)
        self._size_bytes = 0
        self._former_bytes = 0
        self._gone_bytes = 0
        self._dropped_bytes = 0
        self._file = self._create()

    def pump(self) -> int:
        """Copy one chunk. Returns the number of bytes read; 0 at the end of the pipe (no writer is left), -1 if it is empty."""
        try:
            data = os.read(self.pipe, CHUNK_BYTES)
        except BlockingIOError:
            return -1
        copied = len(data)
        while data:
            room = self._part_bytes - self._size_bytes
            if len(data) > room:
                if not (cut := data.rfind(b"\n", 0, room) + 1) and self._size_bytes:
                    self._rotate()
                    continue
                room = cut or room
            data = data[self._write(data[:room]) :]
        return copied

    def drain(self) -> None:
        """Copy what is in the pipe, until it is empty or at its end. To be called when its writers have ended."""
        while self.pump() > 0:
            pass

    def close(self) -> None:
        """Close the pipe and the file."""
        os.close(self.pipe)
        os.close(self._file)

    def _write(self, data: bytes) -> int:
        """Write `data`, or drop it because the disk takes no more. Returns the number of bytes written or dropped."""
        try:
            if self._dropped_bytes:
                note = f"\n[{self._dropped_bytes} bytes lost here: the disk took no more]\n"
                self._size_bytes += os.write(self._file, note.encode())
                self._dropped_bytes = 0
            written = os.write(self._file, data)
        except OSError as error:
            if error.errno not in _DISK_REFUSES:
                raise
            self._dropped_bytes += len(data)
            return len(data)
        self._size_bytes += written
        return written

    def _rotate(self) -> None:
        try:
            with suppress(FileNotFoundError):  # the task has removed it
                os.rename(
                    self._name, f"{self._name}.1", src_dir_fd=self._directory, dst_dir_fd=self._directory
                )
            fresh = self._create()
        except OSError:
            # A directory has one of the names, the disk takes no new file, or the sandbox is gone: empty this file instead.
            os.ftruncate(self._file, 0)
            self._gone_bytes += self._size_bytes
        else:
            os.close(self._file)
            self._file = fresh
            self._gone_bytes += self._former_bytes
            self._former_bytes = self._size_bytes
        self._size_bytes = 0
        if self._gone_bytes:
            with suppress(OSError):  # for the same reasons: then the count is missing or too low
                self._write_note()

    def _write_note(self) -> None:
        name, fresh = f"{self._name}.gone", f"{self._name}.gone.new"
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=self._directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(fresh, flags, 0o600, dir_fd=self._directory)
        try:
            os.write(file, str(self._gone_bytes).encode())
        finally:
            os.close(file)
        os.rename(fresh, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _create(self) -> int:
        # O_APPEND, as the task may truncate its log. O_EXCL, as the class says.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._name, flags, 0o600, dir_fd=self._directory)
