"""The data directory: files that frameworks place on this host, so that their tasks find them near (MapReduce's blocks).

    GET     /data/  /data/SET/  /data/SET/FILE    as the file server serves sandboxes
    PUT     /data/SET/FILE                        Content-Length bytes; answered with their CRC-32
    DELETE  /data/SET/FILE  /data/SET             one file; a whole set

A file appears under its name when it is complete and on the disk, in place of an older one of that name. Tasks may run as
other users and read in place what lies here, so everything is readable by all; only the slave writes.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import zlib
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from offerd.errors import BadInput
from offerd.ids import is_valid_id
from offerd_slave.files import Refused, open_found, step

PREFIX = "/data"
MAX_FILE_BYTES = 1 << 30
"""A block is read by one task: a larger one is a mistake."""
MAX_FILES = 100_000
"""Of one set: a listing has to name them."""
DISK_HEADROOM = 0.1
"""Part of the disk that uploads leave free; the sandboxes need it."""
_CHUNK_BYTES = 1 << 20
_INCOMING = ".incoming-"


class DataDirectory:
    """One slave's data directory. Its methods may be called from any thread; all raise `Refused`."""

    def __init__(self, path: Path) -> None:
        """Make it if it is missing, and remove what uploads of before left unfinished. Raises `BadInput`."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)
            for left in path.glob(f"*/{_INCOMING}*"):
                left.unlink()
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(
                f"cannot use {path} for data: {error.strerror}; choose another with --data-dir"
            ) from None
        self._numbers = itertools.count()

    def close(self) -> None:
        os.close(self._fd)

    def open(self, url_path: str) -> tuple[int, bool]:
        """The descriptor of what a URL's path names, and whether it is a directory."""
        walk = [os.dup(self._fd)]
        try:
            owner = os.fstat(self._fd).st_uid
            for part in _parts(url_path):
                walk.append(step(walk[-1], part.encode()))
            return open_found(walk[-1], owner)
        finally:
            for fd in walk:
                os.close(fd)

    def put(self, url_path: str, stream: BinaryIO, length: int) -> bytes:
        """Store `length` bytes of `stream`; the answer for the client, with their CRC-32."""
        parts = _parts(url_path)
        if len(parts) != 2:
            raise Refused(HTTPStatus.FORBIDDEN, "a file is stored as /data/SET/FILE")
        if length > MAX_FILE_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a file here has at most {MAX_FILE_BYTES} bytes"
            )
        self._check_room(length)
        directory = self._directory(parts[0])
        try:
            if len(os.listdir(directory)) >= MAX_FILES:
                raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, f"a set has at most {MAX_FILES} files")
            crc = self._store(directory, parts[1], stream, length)
        except OSError as error:
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, f"not stored: {error.strerror}") from None
        finally:
            os.close(directory)
        return json.dumps({"size_bytes": length, "crc32": crc}).encode()

    def delete(self, url_path: str) -> None:
        """Remove a file, or a set with all its files."""
        parts = _parts(url_path)
        if not parts:
            raise Refused(HTTPStatus.FORBIDDEN, "the data directory itself is not removed")
        set_fd = step(self._fd, parts[0].encode())
        try:
            if not stat.S_ISDIR(os.fstat(set_fd).st_mode):
                raise Refused(HTTPStatus.NOT_FOUND, "no such set")
            if len(parts) == 2:
                _unlink(parts[1], set_fd)
                return
            with os.scandir(f"/proc/self/fd/{set_fd}") as entries:
                for name in [entry.name for entry in entries]:
                    _unlink(name, set_fd)
            os.rmdir(parts[0], dir_fd=self._fd)
        except OSError as error:
            raise Refused(HTTPStatus.CONFLICT, f"not removed: {error.strerror}") from None
        finally:
            os.close(set_fd)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _check_room(self, length: int) -> None:
        usage = shutil.disk_usage(self._fd)
        if usage.free - length < usage.total * DISK_HEADROOM:
            raise Refused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"{usage.free >> 20} MiB are free on this slave's disk, and a tenth of it stays so; "
                "remove data, or place it elsewhere",
            )

    def _directory(self, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=self._fd)
        try:
            # Not what somebody put in its place: a link would lead out of here.
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as error:
            raise Refused(HTTPStatus.CONFLICT, f"no place for this set: {error.strerror}") from None

    def _store(self, directory: int, name: str, stream: BinaryIO, length: int) -> int:
        incoming = f"{_INCOMING}{next(self._numbers)}"
        fd = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory)
        try:
            with open(fd, "wb", buffering=0) as file:
                crc = _copy(stream, file, length)
                os.fchmod(fd, 0o644)  # whatever our umask is
                os.fsync(fd)
            os.rename(incoming, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(incoming, dir_fd=directory)
            raise
        return crc


def _parts(url_path: str) -> list[str]:
    """`[]`, `[SET]` or `[SET, FILE]`, each a valid id: no dots in front, no slashes, nothing to walk out by."""
    rest = url_path.removeprefix(PREFIX).strip("/")
    parts = [unquote_to_bytes(part).decode(errors="replace") for part in rest.split("/")] if rest else []
    if len(parts) > 2 or not all(is_valid_id(part) for part in parts):
        raise Refused(
            HTTPStatus.NOT_FOUND, "data is at /data/SET/FILE; names are letters, digits and _.:@=+-"
        )
    return parts


def _copy(stream: BinaryIO, file: BinaryIO, length: int) -> int:
    crc, left = 0, length
    while left:
        piece = stream.read(min(_CHUNK_BYTES, left))
        if not piece:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the body ended {left} bytes early")
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]
        crc = zlib.crc32(piece, crc)
        left -= len(piece)
    return crc


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        raise Refused(HTTPStatus.NOT_FOUND, "no such file") from None
