"""The journal: records appended one after another. Each can be read even if its neighbours are damaged.

    MAGIC(2)  LENGTH(4)  CRC32 of the payload(4)  CRC32 of the ten bytes before(4)  PAYLOAD

The header has its own checksum, because a wrong length would swallow the records behind it. After a damaged place the reader
looks for the next valid header; so a torn end, a cut at any byte or a flipped bit damages only the records that it hit.

The reader also looks inside of a damaged record, where an executor may have put bytes of its choice (`data` of a status). It
must not find a header there. So no payload contains the magic: in a payload its first byte is always followed by a zero.
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
"""The magic of an older slave's records, whose payloads are not escaped. They are not accepted behind a damaged place."""
_ESCAPE, _ESCAPED = b"\xf5", b"\xf5\0"
MAX_RECORD_BYTES = 16 << 20
"""The longest record. Statuses come in messages of at most 1 MiB."""
SOUND = MAX_SEQUENCE + 1
"""The highest number of a status: MAX_SEQUENCE for an executor, one more for the slave's own last status."""

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
    """One file, open for appending. Only for one thread, but another one may `sync` at the same time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it with mode 0600. Raises `OSError`."""
        self.path = path
        self._fd = _open(path)
        self._size_bytes = os.fstat(self._fd).st_size
        self.written_bytes = 0
        """What `append` has written so far."""

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return self._size_bytes

    def append(self, records: Sequence[JournalRecord]) -> list[tuple[JournalRecord, str]]:
        """Write the records with one write. Then they survive a kill of this process; after a `sync` also a power loss.
        Returns those that the format cannot express, each with the reason.

        Raises `OSError` (disk full, read-only, broken); the file is then as before, without a part of a record.
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
                # On an almost full disk a write may be cut short; writing the rest raises the error.
                os.write(self._fd, data[written:])
                if os.fstat(self._fd).st_size != self._size_bytes + len(data):
                    raise OSError(28, os.strerror(28), str(self.path))
        except OSError:
            os.ftruncate(self._fd, self._size_bytes)
            raise
        self._size_bytes += len(data)
        self.written_bytes += len(data)
        return refused

    def sync(self) -> None:
        """Sync the file to the disk. Raises `OSError`: then it is unknown what is on the disk, and the slave must not go on."""
        os.fdatasync(self._fd)

    def replay(self) -> tuple[list[JournalRecord], list[Damage]]:
        """All records that can be read, in the order in which they were written, and the damaged places."""
        return parse(self.path.read_bytes())

    def damaged(self, damage: Damage) -> bytes:
        """The bytes of a damaged place."""
        return os.pread(self._fd, min(damage.length, MAX_RECORD_BYTES), damage.offset)

    def compact(self, records: Iterable[JournalRecord]) -> None:
        """Replace the file by one with only these records. A crash leaves the old file or the new one. Must not run at the
        same time as a `sync`.

        Raises `OSError`; then the old file stays in use.
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
    """These records as bytes. Raises `UnwritableRecord`, also for a record that the reader would not accept."""
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
    """The records that can be written, and the others, each with the reason."""
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
    """The records and damaged places of a journal's bytes. Never raises, whatever the file contains."""
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
    """The record that begins there, and where it ends; None if no valid record begins there. `is_in_order`: it follows another
    record directly, or is the first.
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
        return None  # complete, but of a newer version; or an older one has let an executor write it
    if type(record) is StatusStored and not 0 <= record.status.sequence <= SOUND:
        return None
    return record, begin + length


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)
