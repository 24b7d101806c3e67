"""Partitions of sorted map outputs: each reducer gets a range of keys, chosen when all maps are done.

A map task's output is one file, sorted by key, with an *index*: the key at every so many bytes. From samples of the indexes the
framework chooses boundaries that cut the whole into even parts. A reducer finds its part of each file with the index and one
page of the file. So no line is touched for partitioning, and the part files, one after the other, are sorted as a whole.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

TAB = b"\t"
FINEST_STEP_BYTES = 512
COARSEST_STEP_BYTES = 64 << 10
ENTRIES = 128
"""Steps are small enough that even a small file has so many entries."""
MAX_KEY_BYTES = 1024
"""Longer keys are not used as boundaries."""


class Entry(NamedTuple):
    """A line's offset and key, and the SHA-256 of the *step*: all bytes from there to the next entry."""

    offset: int
    key: bytes
    sha256: str = ""


Index = list[Entry]
"""In rising order; the first line is always in it."""
Read = Callable[[int, int], bytes]
"""`read(offset, length)` reads from a map output."""


def key_of(line: bytes) -> bytes:
    """All before the first TAB; the whole line if there is none."""
    return line.rstrip(b"\n").partition(TAB)[0]


def make_index(file: BinaryIO) -> Index:
    """The index of a sorted file."""
    size = os.fstat(file.fileno()).st_size
    step = min(COARSEST_STEP_BYTES, max(FINEST_STEP_BYTES, size // ENTRIES))
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset < size:
        file.seek(offset)
        key = key_of(file.readline())
        if not found or len(key) <= MAX_KEY_BYTES:
            found.append((offset, key))
        file.seek(max(offset, offset + step - 1))
        file.readline()
        offset = file.tell()
    ends = [*(offset for offset, _ in found[1:]), size]
    file.seek(0)
    return [
        Entry(offset, key, _digest_of_next(file, end - offset))
        for (offset, key), end in zip(found, ends, strict=False)
    ]


def _digest_of_next(file: BinaryIO, length: int) -> str:
    digest = hashlib.sha256()
    while length and (part := file.read(min(length, 1 << 20))):
        digest.update(part)
        length -= len(part)
    return digest.hexdigest()


def step_at(index: Index, size: int, offset: int) -> tuple[int, int, str]:
    """The step with the byte at `offset`: its begin, its end and its digest."""
    position = bisect.bisect_right(index, offset, key=lambda entry: entry.offset) - 1
    end = index[position + 1].offset if position + 1 < len(index) else size
    return index[position].offset, end, index[position].sha256


def samples(index: Index, size: int, number: int) -> list[tuple[bytes, int]]:
    """At most `number` keys of an index, each with the number of bytes up to the next."""
    stride = max(1, -(-len(index) // number))
    chosen = [entry for entry in index[::stride] if len(entry.key) <= MAX_KEY_BYTES]
    ends = [*(entry.offset for entry in chosen[1:]), size]
    return [(entry.key, end - entry.offset) for entry, end in zip(chosen, ends, strict=False)]


def choose_boundaries(sampled: Iterable[tuple[bytes, int]], parts: int) -> list[bytes]:
    """`parts - 1` keys, for even parts according to the samples: partition i has the keys from boundary i-1 on and below
    boundary i.

    A key with more bytes than a part leaves some partitions empty; no key is ever in two.
    """
    ordered = sorted(sampled)
    total = sum(weight for _, weight in ordered)
    boundaries: list[bytes] = []
    seen = 0
    for key, weight in ordered:
        while len(boundaries) < parts - 1 and seen + weight / 2 >= total * (len(boundaries) + 1) / parts:
            boundaries.append(key)
        seen += weight
    last = ordered[-1][0] + b"\0" if ordered else b""
    return boundaries + [last] * (parts - 1 - len(boundaries))


def find(index: Index, size: int, boundary: bytes | None, read: Read) -> int:
    """The offset of the first line whose key is not below `boundary` (None: `size`), in a sorted file with this index."""
    if boundary is None:
        return size
    position = bisect.bisect_left(index, boundary, key=lambda entry: entry.key)
    if position == 0:
        return 0
    # The line is after the last entry below the boundary, and not after the next entry: within one step.
    offset = index[position - 1].offset
    end = index[position].offset if position < len(index) else size
    for line in io.BytesIO(read(offset, end - offset)):  # not splitlines(), which would also split at CR
        if key_of(line) >= boundary:
            break
        offset += len(line)
    return offset


def pack(index: Index) -> bytes:
    """The index as bytes for a file."""
    return json.dumps([[offset, key.decode("latin-1"), sha256] for offset, key, sha256 in index]).encode()


def unpack(content: bytes) -> Index:
    """Read what `pack` has made. Raises `ValueError`."""
    return [Entry(offset, key.encode("latin-1"), sha256) for offset, key, sha256 in json.loads(content)]
