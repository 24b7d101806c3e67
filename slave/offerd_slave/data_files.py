"""The data directory: files that frameworks place on this host, so that their tasks can read them locally (MapReduce's blocks).

    GET     /data/@OWNER/  /data/@OWNER/SET/  /data/@OWNER/SET/FILE    as the file server serves sandboxes
    PUT     /data/@OWNER/SET/FILE                                      Content-Length bytes; answered with their CRC-32
    DELETE  /data/@OWNER/SET/FILE  /data/@OWNER/SET                    one file; a whole set

Each owner of frameworks has its own directory: names of different owners do not collide, and nobody else can read, replace
or remove its files, except operators, who can read everything (`/data/` lists the owners) and remove any set.

A file appears under its name when it is complete and on the disk, and replaces an older one of that name. In a set of a
running job (`job-*`), whose files are executed, no file is ever replaced. Only the slave writes. Tasks read the files of
their owner in place: only the users that its tasks run as can enter its directory (`let_in`).
"""

from __future__ import annotations

import filecmp
import itertools
import json
import os
import shutil
import stat
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from offerd.errors import BadInput
from offerd.files_access import owner_directory
from offerd.ids import FrameworkID, is_valid_id, owner_of
from offerd_slave.access_lists import allow_search
from offerd_slave.directory_walk import OPEN_DIRECTORY
from offerd_slave.file_front import Principal
from offerd_slave.file_requests import Refused
from offerd_slave.served_paths import open_found, step

MAX_FILE_BYTES = 1 << 30
"""The largest file. One task reads a block, so a larger one would be a mistake."""
MAX_SETS = 1_000
"""The most sets of one owner."""
MAX_FILES = 10_000
"""The most files of one set, as a listing names them all."""
MAX_FILES_OF_OWNER = 200_000
DISK_HEADROOM = 0.1
"""Part of the disk, and of its inodes, that uploads leave free; the sandboxes need it."""
KEPT = "job-"
"""Prefix of sets whose files running jobs execute."""
_CHUNK_BYTES = 1 << 20
_LOOK_BYTES = 16 << 20
"""After this many bytes of an upload the free room is checked again, as others write, too."""
_INCOMING = ".incoming-"


class Stream(Protocol):
    def read(self, count: int, /) -> bytes: ...


class DataDirectory:
    """One slave's data directory. Its methods may be called from any thread; those for clients raise `Refused`."""

    def __init__(self, path: Path) -> None:
        """Make the directory if it is missing, and remove unfinished uploads of an earlier slave process. Raises `BadInput`."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o711)
            for left in path.glob(f"@*/*/{_INCOMING}*"):
                left.unlink()
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(
                f"cannot use {path} for data: {error.strerror}; choose another with --data-dir"
            ) from None
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # guards the attributes below
        self._incoming_bytes = 0  # rest of the uploads that have begun: this room is not free
        self._files: dict[
            str, dict[str, int]
        ] = {}  # owner -> set -> number of files, for owners that have written
        self._let_in: set[tuple[str, int]] = set()

    def close(self) -> None:
        os.close(self._fd)

    # -- for the slave ------------------------------------------------------------------------------------------------

    def let_in(self, owner: str, uid: int) -> None:
        """Let processes of this user read the owner's files in place. If the file system has no access lists, they cannot,
        and read over HTTP.
        """
        if (owner, uid) in self._let_in:
            return
        with suppress(OSError, Refused):
            fd = self._owner(owner_directory(owner))
            try:
                if uid != os.geteuid():
                    allow_search(fd, uid)
                self._let_in.add((owner, uid))
            finally:
                os.close(fd)

    def of_framework(self, framework_id: FrameworkID) -> Path:
        """The directory with the files of this framework's owner."""
        return self.path / owner_directory(owner_of(framework_id))

    # -- for clients --------------------------------------------------------------------------------------------------

    def open(self, parts: Sequence[bytes], principal: Principal) -> tuple[int, bool]:
        """Open the file or directory that a path below `/data` names. Returns its descriptor, and whether it is a directory."""
        names = _names(parts)
        if not principal.is_operator and names[:1] != [owner_directory(principal.name)]:
            raise Refused(HTTPStatus.NOT_FOUND, "no such file")
        handle = os.dup(self._fd)
        for name in names:
            above = handle
            try:
                handle = step(above, name.encode())
            finally:
                os.close(above)
        try:
            return open_found(handle, os.fstat(self._fd).st_uid)
        finally:
            os.close(handle)

    def put(self, parts: Sequence[bytes], principal: Principal, stream: Stream, length: int) -> bytes:
        """Store `length` bytes of `stream`. Returns the answer for the client, with their CRC-32."""
        names = _names(parts)
        if len(names) != 3:
            raise Refused(HTTPStatus.FORBIDDEN, "a file is stored as /data/@OWNER/SET/FILE")
        owner, name, file = names
        if owner != owner_directory(principal.name):
            raise Refused(HTTPStatus.FORBIDDEN, "these sets are another owner's")
        if length > MAX_FILE_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a file here has at most {MAX_FILE_BYTES} bytes"
            )
        if owner not in self._files:
            counted = _count_files(self.path / owner)  # before the lock is taken, as it may take long
            self._files.setdefault(owner, counted)
        with self._lock:
            self._check_room(length)
            self._count(owner, name)
            self._incoming_bytes += length
        upload = _Upload(self, stream, length)
        try:
            crc = self._put(owner, name, file, upload)
        except OSError as error:
            self._files.pop(owner, None)  # to be counted again
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, f"not stored: {error.strerror}") from None
        except Refused:
            self._files.pop(owner, None)
            raise
        finally:
            self.arrived(upload.left)
        return json.dumps({"size_bytes": length, "crc32": crc}).encode()

    def delete(self, parts: Sequence[bytes], principal: Principal) -> None:
        """Remove a file, or a set with all its files."""
        names = _names(parts)
        if len(names) < 2:
            raise Refused(HTTPStatus.FORBIDDEN, "only sets and files of sets are removed")
        if not principal.is_operator and names[0] != owner_directory(principal.name):
            raise Refused(HTTPStatus.NOT_FOUND, "no such set")
        owner_fd = step(self._fd, names[0].encode())
        set_fd = -1
        try:
            set_fd = step(owner_fd, names[1].encode())
            if not stat.S_ISDIR(os.fstat(set_fd).st_mode):
                raise Refused(HTTPStatus.NOT_FOUND, "no such set")
            if len(names) == 3:
                _unlink(names[2], set_fd)
                return
            with os.scandir(f"/proc/self/fd/{set_fd}") as entries:
                for name in [entry.name for entry in entries]:
                    _unlink(name, set_fd)
            os.rmdir(names[1], dir_fd=owner_fd)
        except OSError as error:
            raise Refused(HTTPStatus.CONFLICT, f"not removed: {error.strerror}") from None
        finally:
            self._files.pop(names[0], None)
            os.close(owner_fd)
            if set_fd >= 0:
                os.close(set_fd)

    # -- inside -----------------------------------------------------------------------------------------------------

    def arrived(self, count: int) -> None:
        """These bytes of an upload are written, or will not come."""
        with self._lock:
            self._incoming_bytes -= count

    def check_room(self) -> None:
        """Raise `Refused` if there is no room for the rest of all uploads."""
        with self._lock:
            self._check_room(0)

    def _check_room(self, length: int) -> None:
        usage = shutil.disk_usage(self._fd)
        if usage.free - self._incoming_bytes - length < usage.total * DISK_HEADROOM:
            raise Refused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"{usage.free >> 20} MiB are free on this slave's disk, and a tenth of it stays so; "
                "remove data, or place it elsewhere",
            )
        inodes = os.fstatvfs(self._fd)
        if inodes.f_files and inodes.f_favail < inodes.f_files * DISK_HEADROOM:
            raise Refused(
                HTTPStatus.INSUFFICIENT_STORAGE, "this slave's disk has hardly any inodes left; remove files"
            )

    def _count(self, owner: str, name: str) -> None:
        """Count a new file. It may replace another one, so the count can be too high, never too low."""
        sets = self._files.setdefault(owner, {})
        if name not in sets and len(sets) >= MAX_SETS:
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, f"an owner has at most {MAX_SETS} sets on a slave")
        if sets.get(name, 0) >= MAX_FILES:
            sets[name] = _count_set(self.path / owner / name)
        if sets.get(name, 0) >= MAX_FILES:
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, f"a set has at most {MAX_FILES} files")
        if sum(sets.values()) >= MAX_FILES_OF_OWNER:
            raise Refused(
                HTTPStatus.INSUFFICIENT_STORAGE, f"an owner has at most {MAX_FILES_OF_OWNER} files on a slave"
            )
        sets[name] = sets.get(name, 0) + 1

    def _put(self, owner: str, name: str, file: str, upload: _Upload) -> int:
        owner_fd = self._owner(owner)
        try:
            set_fd = _directory(owner_fd, name, 0o755)
        finally:
            os.close(owner_fd)
        try:
            return self._store(set_fd, file, upload, replaces=not name.startswith(KEPT))
        finally:
            os.close(set_fd)

    def _owner(self, directory: str) -> int:
        return _directory(self._fd, directory, 0o700)

    def _store(self, directory: int, name: str, upload: _Upload, *, replaces: bool) -> int:
        incoming = f"{_INCOMING}{next(self._numbers)}"
        fd = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory)
        try:
            with open(fd, "wb", buffering=0) as file:
                crc = upload.copy(file.fileno())
                os.fchmod(fd, 0o644)  # whatever the umask is; the owner's directory keeps others out
                os.fsync(fd)
            if replaces:
                os.rename(incoming, name, src_dir_fd=directory, dst_dir_fd=directory)
                return crc
            with suppress(FileExistsError):
                os.link(incoming, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            here = f"/proc/self/fd/{directory}"
            # A client that missed the answer may send the same file again.
            if not filecmp.cmp(f"{here}/{incoming}", f"{here}/{name}", shallow=False):
                raise Refused(HTTPStatus.CONFLICT, f"{name} exists already, and is not replaced")
        except BaseException:
            os.unlink(incoming, dir_fd=directory)
            raise
        os.unlink(incoming, dir_fd=directory)
        return crc


class _Upload:
    """The body of an upload. `left`: how many bytes are still to come."""

    def __init__(self, data: DataDirectory, stream: Stream, length: int) -> None:
        self._data = data
        self._stream = stream
        self.left = length

    def copy(self, target: int) -> int:
        """Write the body to `target`; returns its CRC-32. Raises `Refused` if it ends early, or there is no room."""
        crc, looked_at = 0, self.left
        while self.left:
            piece = self._stream.read(min(_CHUNK_BYTES, self.left))
            if not piece:
                raise Refused(HTTPStatus.BAD_REQUEST, f"the body ended {self.left} bytes early")
            view = memoryview(piece)
            while view:
                view = view[os.write(target, view) :]
            crc = zlib.crc32(piece, crc)
            self.left -= len(piece)
            self._data.arrived(len(piece))
            if looked_at - self.left >= _LOOK_BYTES:
                looked_at = self.left
                self._data.check_room()
        return crc


def _directory(parent: int, name: str, mode: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)
    try:
        # O_NOFOLLOW, as a link in its place would lead out of the data directory.
        return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise Refused(HTTPStatus.CONFLICT, f"cannot make the set's directory: {error.strerror}") from None


def _names(parts: Sequence[bytes]) -> list[str]:
    """The names in a path: `[]`, `[@OWNER]`, `[@OWNER, SET]` or `[@OWNER, SET, FILE]`. SET and FILE are valid ids, without a
    dot at the start or a slash, so that they cannot lead out of the directory. Raises `Refused`.
    """
    names = [part.decode(errors="replace") for part in parts]
    is_good = len(names) <= 3 and all(map(is_valid_id, names[1:]))
    if names and not (names[0] == "@" or (names[0][:1] == "@" and is_valid_id(names[0][1:]))):
        is_good = False
    if not is_good:
        raise Refused(
            HTTPStatus.NOT_FOUND, "data is at /data/@OWNER/SET/FILE; names are letters, digits and _.:@=+-"
        )
    return names


def _count_files(owner: Path) -> dict[str, int]:
    try:
        names = os.listdir(owner)
    except FileNotFoundError:
        return {}
    return {name: _count_set(owner / name) for name in names}


def _count_set(path: Path) -> int:
    try:
        return len(os.listdir(path))
    except OSError:
        return 0


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        raise Refused(HTTPStatus.NOT_FOUND, "no such file") from None
