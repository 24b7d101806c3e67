"""Checkpoints: one small file per object, with a version and a checksum, replaced as a whole or not at all.

    OFFERD1 FORMAT LENGTH CRC32\n      text, so that `head -1` shows what a file is
    PAYLOAD                            MessagePack of one struct

A file that is not exactly that is damaged: it is quarantined, and one object is lost, never the slave.
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
# The checksum also covers the format number.
MAX_HEADER_BYTES = 64

T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.msgpack.Encoder().encode


class DamagedCheckpoint(Exception):
    """The file exists and cannot be used; the text says which file, and what is wrong with it."""


def write_checkpoint(path: Path, struct: msgspec.Struct) -> None:
    """Write `struct` to this file, synced to the disk on return; a crash leaves the old file or the new one.

    The mode is 0600. Raises `OSError` and `UnwritableRecord`; the old file is then untouched.
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
            if written < len(header) + len(payload):  # the disk is full, as the next write would report
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

    Raises `FileNotFoundError`, and `DamagedCheckpoint` for a file that is cut off, changed, empty, of a newer format, of
    another type, or on a bad disk.
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
        raise DamagedCheckpoint(f"{path}: not a checkpoint, or one that is cut off ({len(data)} bytes)")
    try:
        version, length, checksum = int(fields[1]), int(fields[2]), int(fields[3], 16)
    except ValueError:
        raise DamagedCheckpoint(f"{path}: its first line cannot be read") from None
    if header != b"%s %d %d %08x" % (MAGIC, version, length, checksum):
        raise DamagedCheckpoint(f"{path}: its first line was not written by a slave")
    if version > FORMAT:
        raise DamagedCheckpoint(f"{path}: format {version} is newer than this slave's, {FORMAT}")
    if length != len(payload) or checksum != zlib.crc32(payload, version):
        raise DamagedCheckpoint(f"{path}: {len(payload)} bytes of {length}, or changed ones")
    try:
        return msgspec.msgpack.decode(payload, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path}: not a {type_.__name__}: {error}") from None


def quarantine(path: Path, quarantine_dir: Path) -> Path:
    """Move a damaged file into the quarantine, for a person to look at; returns its new path. Raises `OSError`."""
    quarantine_dir.mkdir(mode=0o700, exist_ok=True)
    stem = f"{path.parent.name}.{path.name}"
    number = 0
    while True:
        target = quarantine_dir / (f"{stem}.{number}" if number else stem)
        try:
            os.link(
                path, target
            )  # fails if the name exists; a rename would replace an older file in the quarantine
        except FileExistsError:
            number += 1
            continue
        path.unlink()
        return target


def keep_aside(quarantine_dir: Path, name: str, data: bytes) -> None:
    """Write damaged data into the quarantine, for a person to look at. If the disk does not take it, it is lost."""
    with suppress(OSError):
        quarantine_dir.mkdir(mode=0o700, exist_ok=True)
        number = 0
        while (path := quarantine_dir / f"{name}.{number}").exists():
            number += 1
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)


def fsync_directory(path: Path) -> None:
    """Sync a directory: the names made, renamed or removed in it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
