"""Reads the lines of compressed input, with little memory, and either all of them or with an error. The name decides (of a
block, its file's name).

Several members one after the other (`cat a.gz b.gz`, `pigz`, `xz -T`) are all read. Bytes that are not a member where one
should begin, or a member without its end, are damage, not an end: Python's own readers of two of these formats would skip them
silently.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.leftovers import Leftovers

READ_BYTES = 256 << 10
MOST_MEMORY_BYTES = 128 << 20
"""Most memory of a decompressor, which is zstd's default; `xz -9` needs half of it."""
ZSTD = ["zstd", "-dcq", f"--memory={MOST_MEMORY_BYTES}", "--"]


def is_compressed(name: str) -> bool:
    """Whether the file must be decompressed to be read."""
    return name.lower().endswith(tuple(_OPENERS))


def open_plain(path: str, leftovers: Leftovers, name: str = "") -> io.BufferedReader:
    """The decompressed contents of the file at `path`, which is called `name` if given. Reading raises `CommandFailed` if the
    file is damaged or cannot be decompressed.
    """
    name = name or path
    opener = next(opener for suffix, opener in _OPENERS.items() if name.lower().endswith(suffix))
    return io.BufferedReader(_Plain(path, opener, leftovers, name), READ_BYTES)


def count_lines(path: str, leftovers: Leftovers, name: str = "") -> int:
    """How many lines a compressed file has, counting a last one without an end. Raises `CommandFailed`."""
    lines, last = 0, b"\n"
    with open_plain(path, leftovers, name) as plain:
        while part := plain.read1(READ_BYTES):
            lines += part.count(b"\n")
            last = part[-1:]
    return lines + (last != b"\n")


class _Plain(io.RawIOBase):
    def __init__(
        self, path: str, opener: Callable[[str, Leftovers], Any], leftovers: Leftovers, name: str
    ) -> None:
        self._name = name
        self._source: Any = None
        try:
            self._source = opener(path, leftovers)
        except OSError as error:
            raise CommandFailed(f"cannot read {name}: {error.strerror}") from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            part = self._source.read1(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise CommandFailed(f"cannot decompress {self._name}: {error}") from None
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed and self._source is not None:
            self._source.close()
        super().close()


class _Streams:
    """Streams of bz2 or xz, one after the other."""

    def __init__(self, path: str, make: Callable[[], Any], padding: bytes) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (until `close`)
        self._make = make
        self._padding = padding
        self._decoder: Any = None
        self._input = b""

    def read1(self, most: int) -> bytes:
        while True:
            if not self._input and (self._decoder is None or self._decoder.needs_input):
                self._input = self._file.read(READ_BYTES)
                if not self._input and self._decoder is not None:
                    raise EOFError("it is truncated")
            if self._decoder is None:
                if not self._input:
                    return b""
                self._input = self._input.lstrip(self._padding) if self._padding else self._input
                if not self._input:
                    continue
                self._decoder = self._make()
            part: bytes = self._decoder.decompress(self._input, most)
            self._input = b""
            if self._decoder.eof:
                self._input, self._decoder = self._decoder.unused_data, None
            if part:
                return part

    def close(self) -> None:
        self._file.close()


class _Zstd:
    """Uses the `zstd` program: Python cannot decompress zstd before 3.14."""

    def __init__(self, path: str, leftovers: Leftovers) -> None:
        try:
            self._process = leftovers.start(
                lambda environment: subprocess.Popen(
                    [*ZSTD, path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment,
                ),
                os.environ,
                is_tool=True,
            )
        except FileNotFoundError:
            raise CommandFailed(
                f"cannot decompress {path}: this slave has no zstd; install it (apt-get install zstd)"
            ) from None
        self._leftovers = leftovers
        self._stdout: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        self._stderr: IO[bytes] = self._process.stderr  # type: ignore[assignment]

    def read1(self, most: int) -> bytes:
        if part := os.read(self._stdout.fileno(), most):
            return part
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        self._leftovers.reap(self._process)
        if self._process.returncode:
            raise OSError(said[0] if said else f"zstd ended with status {self._process.returncode}")
        return b""

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._leftovers.reap(self._process)
        self._stdout.close()
        self._stderr.close()


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY_BYTES)


_OPENERS: dict[str, Callable[[str, Leftovers], Any]] = {
    ".gz": lambda path, _: gzip.GzipFile(path, "rb"),
    ".bz2": lambda path, _: _Streams(path, bz2.BZ2Decompressor, b""),
    ".xz": lambda path, _: _Streams(path, _xz, b"\0"),
    ".zst": _Zstd,
}
