"""Checkpoints: one small file per object, versioned and checked, replaced as a whole or not at all.

    OFFERD1 FORMAT LENGTH CRC32\n      text, so that `head -1` tells what a file is
    PAYLOAD                            MessagePack of one struct

A file that does not read as exactly that is damaged: it is set aside, and costs one object, never the slave.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from offerd_slave.records import FORMAT, UnwritableRecord

MAGIC = b"OFFERD1"
# The checksum begins with the format, so that a changed digit there is noticed too.
MAX_HEADER_BYTES = 64

T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.msgpack.Encoder().encode


class DamagedCheckpoint(Exception):
    """The file is there and cannot be used; the text says which file, and what is wrong with it."""


def write_checkpoint(path: Path, struct: msgspec.Struct) -> None:
    """Put `struct` under this name, on the disk when this returns; a crash leaves the old file or the new one.

    Mode 0600. Raises `OSError` and `UnwritableRecord`; the old file is then untouched.
    """
    try:
        payload = _encode(struct)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UnwritableRecord(f"{type(struct).__name__}: {error}") from None
    header = b"%s %d %d %08x\n" % (MAGIC, FORMAT, len(payload), zlib.crc32(payload, FORMAT))
    draft = path.with_name(f".{path.name}.new")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(fd, header + payload)
            if written < len(header) + len(payload):  # the disk is full, the next write would say so
                raise OSError(28, os.strerror(28), str(draft))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def read_checkpoint(path: Path, type_: type[T]) -> T:
    """The struct that was written there.

    Raises `FileNotFoundError`, and `DamagedCheckpoint` for what cannot be read: cut off, changed, empty, of a newer
    format, of another type, or on a bad disk.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {error.strerror}") from None
    header, newline, payload = data.partition(b"\n")
    fields = header[:MAX_HEADER_BYTES].split(b" ")
    if not newline or len(fields) != 4 or fields[0] != MAGIC:
        raise DamagedCheckpoint(f"{path}: no checkpoint, or one that is cut off ({len(data)} bytes)")
    try:
        version, length, checksum = int(fields[1]), int(fields[2]), int(fields[3], 16)
    except ValueError:
        raise DamagedCheckpoint(f"{path}: its first line cannot be read") from None
    if header != b"%s %d %d %08x" % (MAGIC, version, length, checksum):
        raise DamagedCheckpoint(f"{path}: its first line is not as we write it")
    if version > FORMAT:
        raise DamagedCheckpoint(f"{path}: format {version} is newer than ours, {FORMAT}")
    if length != len(payload) or checksum != zlib.crc32(payload, version):
        raise DamagedCheckpoint(f"{path}: {len(payload)} bytes of {length}, or changed ones")
    try:
        return msgspec.msgpack.decode(payload, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path}: no {type_.__name__}: {error}") from None


def quarantine(path: Path, quarantine_dir: Path) -> Path:
    """Move a damaged file out of the way, for a person to look at; where it is now. Raises `OSError`."""
    quarantine_dir.mkdir(mode=0o700, exist_ok=True)
    stem = f"{path.parent.name}.{path.name}"
    number = 0
    while True:
        target = quarantine_dir / (f"{stem}.{number}" if number else stem)
        try:
            os.link(
                path, target
            )  # fails if the name exists; a rename would replace what was set aside before
        except FileExistsError:
            number += 1
            continue
        path.unlink()
        return target


def keep_aside(quarantine_dir: Path, name: str, data: bytes) -> None:
    """For a person to look at. What the disk does not take is lost: it is of no use to us."""
    with suppress(OSError):
        quarantine_dir.mkdir(mode=0o700, exist_ok=True)
        number = 0
        while (path := quarantine_dir / f"{name}.{number}").exists():
            number += 1
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)


def fsync_directory(path: Path) -> None:
    """Bring names made, renamed or removed there to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
