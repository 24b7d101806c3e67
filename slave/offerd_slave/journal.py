"""The journal: records appended one after another, each found again even when its neighbours are damaged.

    MAGIC(2)  LENGTH(4)  CRC32 of the payload(4)  CRC32 of the ten bytes before(4)  PAYLOAD

The header has a checksum of its own, because a length that is believed wrongly would swallow the records behind it. After
a damaged place the reader looks for the next header that is right; so a torn end, a cut at any byte or a flipped bit
costs the records that it hit, no others.

It looks for one inside of the damaged record, too, and what stands there may be an executor's own (`data` of a status): it
must find none that somebody has put there. So no payload holds the magic: what is its first byte is followed by a zero there.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from offerd_slave.checkpoint import fsync_directory
from offerd_slave.records import MAX_SEQUENCE, JournalRecord, StatusStored, UnwritableRecord

MAGIC = b"\xf5K"
OLD_MAGIC = b"\xf5J"
"""Of records whose payloads stand as they are: of an older slave. Not believed behind a damaged place."""
_ESCAPE, _ESCAPED = b"\xf5", b"\xf5\0"
MAX_RECORD_BYTES = 16 << 20
"""No record is longer: statuses come in messages of 1 MiB at most."""
SOUND = MAX_SEQUENCE + 1
"""Highest number of a status that everybody can count with."""

_FIELDS = struct.Struct("<2sII")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECK.size

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(JournalRecord).decode


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that belong to no record that can be read."""

    offset: int
    length: int


class Journal:
    """One file, open for appending. Not for several threads, but for `sync`, which may run beside `append`."""

    def __init__(self, path: Path) -> None:
        """Open or make the file (0600). Raises `OSError`."""
        self.path = path
        self._fd = _open(path)
        self._size_bytes = os.fstat(self._fd).st_size

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self._size_bytes

    def append(self, records: Sequence[JournalRecord]) -> list[tuple[JournalRecord, str]]:
        """Write the records, all with one write; a kill of this process loses nothing of them, `sync` saves from power loss.
        Returns those that cannot be written whatever the disk does, each with the reason.

        Raises `OSError` (disk full, read-only, broken), and then the file is as before: no part of a record stays in it.
        """
        refused: list[tuple[JournalRecord, str]] = []
        try:
            data = frame(records)
        except UnwritableRecord:
            records, refused = writable(records)
            data = frame(records)
        if not data:
            return refused
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                # Near the end of a disk a write may be cut short; the rest says why.
                os.write(self._fd, data[written:])
                if os.fstat(self._fd).st_size != self._size_bytes + len(data):
                    raise OSError(28, os.strerror(28), str(self.path))
        except OSError:
            os.ftruncate(self._fd, self._size_bytes)
            raise
        self._size_bytes += len(data)
        return refused

    def sync(self) -> None:
        """Bring what is written to the disk. Raises `OSError`: then nobody knows what is there, so do not go on."""
        os.fdatasync(self._fd)

    def replay(self) -> tuple[list[JournalRecord], list[Damage]]:
        """Everything that can be read, in the order it was written, and where something could not."""
        return parse(self.path.read_bytes())

    def damaged(self, damage: Damage) -> bytes:
        """What stands there."""
        return os.pread(self._fd, min(damage.length, MAX_RECORD_BYTES), damage.offset)

    def compact(self, records: Iterable[JournalRecord]) -> None:
        """Replace the file by one with only these. A crash leaves the old file or the new one. Not beside a `sync`.

        Raises `OSError`; the old file then goes on.
        """
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.unlink(missing_ok=True)
        fresh = _open(draft)
        try:
            data = frame(records)
            view = memoryview(data)
            while view:
                view = view[os.write(fresh, view) :]
            os.fsync(fresh)
            os.rename(draft, self.path)
        except OSError:
            os.close(fresh)
            draft.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd, self._size_bytes = fresh, len(data)
        fsync_directory(self.path.parent)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def frame(records: Iterable[JournalRecord]) -> bytes:
    """The bytes that stand for these records. Raises `UnwritableRecord`; so also for one that could be written and would not be
    believed when it is read."""
    parts: list[bytes] = []
    for record in records:
        try:
            payload = _encode(record)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise UnwritableRecord(f"{type(record).__name__}: {error}") from None
        if len(payload) > MAX_RECORD_BYTES:
            raise UnwritableRecord(f"a record of {len(payload)} bytes; {MAX_RECORD_BYTES} are possible")
        if type(record) is StatusStored and not 0 <= record.status.sequence <= SOUND:
            raise UnwritableRecord(f"a status numbered {record.status.sequence}")
        payload = payload.replace(_ESCAPE, _ESCAPED)
        fields = _FIELDS.pack(MAGIC, len(payload), zlib.crc32(payload))
        parts += (fields, _CHECK.pack(zlib.crc32(fields)), payload)
    return b"".join(parts)


def writable(records: Iterable[JournalRecord]) -> tuple[list[JournalRecord], list[tuple[JournalRecord, str]]]:
    """Those that bytes can stand for, and the others, each with the reason."""
    good: list[JournalRecord] = []
    refused: list[tuple[JournalRecord, str]] = []
    for record in records:
        try:
            frame([record])
        except UnwritableRecord as error:
            refused.append((record, str(error)))
        else:
            good.append(record)
    return good, refused


def parse(data: bytes) -> tuple[list[JournalRecord], list[Damage]]:
    """Records and damages of a journal's bytes. Never raises: anything may stand in a file."""
    records: list[JournalRecord] = []
    damages: list[Damage] = []
    offset, bad_from = 0, -1
    while offset < len(data):
        found = _record_at(data, offset, is_in_order=bad_from < 0)
        if found is None:
            if bad_from < 0:
                bad_from = offset
            following = data.find(MAGIC, offset + 1)
            offset = following if following >= 0 else len(data)
            continue
        if bad_from >= 0:
            damages.append(Damage(bad_from, offset - bad_from))
            bad_from = -1
        record, offset = found
        records.append(record)
    if bad_from >= 0:
        damages.append(Damage(bad_from, len(data) - bad_from))
    return records, damages


def _record_at(data: bytes, offset: int, *, is_in_order: bool) -> tuple[JournalRecord, int] | None:
    """The record that begins there, and where it ends; None if none does that can be read. `is_in_order`: right behind another
    one, or at the beginning.
    """
    begin = offset + HEADER_BYTES
    if len(data) < begin:
        return None
    magic, length, checksum = _FIELDS.unpack_from(data, offset)
    (header_checksum,) = _CHECK.unpack_from(data, offset + _FIELDS.size)
    is_ours = magic == MAGIC or (magic == OLD_MAGIC and is_in_order)
    if not is_ours or header_checksum != zlib.crc32(data[offset : offset + _FIELDS.size]):
        return None
    payload = data[begin : begin + length]
    if len(payload) < length or zlib.crc32(payload) != checksum:
        return None
    if magic == MAGIC:
        payload = payload.replace(_ESCAPED, _ESCAPE)
    try:
        record = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None  # whole, but not of ours: of a newer version, or poisoned by an executor of an older one
    if type(record) is StatusStored and not 0 <= record.status.sequence <= SOUND:
        return None
    return record, begin + length


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)
