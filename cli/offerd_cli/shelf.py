"""Outputs of `offerd map --keep-order` that wait for their turn: many or large ones, in little memory and one file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import IO, NamedTuple

from offerd.errors import OfferdError

MEMORY_BYTES = 16 << 20
"""Bytes kept in memory; more go to the file."""
COPY_BYTES = 1 << 20


class Region:
    """A part of the file, to be read once from its start."""

    def __init__(self, fd: int, at: int, size: int) -> None:
        self._fd, self._at, self._left = fd, at, size

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, size: int) -> bytes:
        content = os.pread(self._fd, min(size, self._left), self._at)
        self._at += len(content)
        self._left -= len(content)
        return content


Part = bytes | IO[bytes] | Region


class Output(NamedTuple):
    """The output of a task: bytes if it is small, files if it is large."""

    stdout: Part = b""
    stderr: Part = b""


class Shelf:
    """Outputs by index. One that was taken must be read before the next is put."""

    def __init__(self) -> None:
        self._held: dict[int, Output] = {}
        self._memory_bytes = 0
        self._file: IO[bytes] | None = None
        self._end = 0

    def put(self, index: int, output: Output) -> None:
        """Keep an output; its files are closed. Raises `OfferdError` if there is no room."""
        if not self._held:
            self._end = self._memory_bytes = 0
        try:
            self._held[index] = Output(self._keep(output.stdout), self._keep(output.stderr))
        except OSError as error:
            where = tempfile.gettempdir()
            raise OfferdError(
                f"outputs that wait for their turn cannot be kept in {where}: {error.strerror}; leave out --keep-order"
            ) from None

    def take(self, index: int) -> Output | None:
        """None if it is not here."""
        output = self._held.pop(index, None)
        if output is not None:
            self._memory_bytes -= sum(len(part) for part in output if isinstance(part, bytes))
        return output

    def indices(self) -> list[int]:
        """The indices of all outputs here, in order."""
        return sorted(self._held)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _keep(self, part: Part) -> Part:
        if isinstance(part, bytes):
            if self._memory_bytes + len(part) <= MEMORY_BYTES:
                self._memory_bytes += len(part)
                return part
            return self._store([part])
        with part:
            return self._store(iter(lambda: part.read(COPY_BYTES), b""))

    def _store(self, contents: Iterable[bytes]) -> Region:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        fd, start = self._file.fileno(), self._end
        if not start:
            os.truncate(fd, 0)
        for content in contents:
            left = memoryview(content)
            while left:
                written = os.pwrite(fd, left, self._end)
                self._end += written
                left = left[written:]
        return Region(fd, start, self._end - start)
