"""Open files below a directory that tasks can write, safely even if the slave is root and the tasks mean harm.

A path is walked one component at a time from a directory that is held open. No link is followed, and an entry is checked
before it is opened, so that only regular files and directories are ever opened.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import stat
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus

from offerd.ids import is_valid_id
from offerd_slave.file_requests import Refused

MAX_LISTED = 10_000
"""Entries of one directory that a listing shows."""
MAX_LOOKED_AT = 100_000
"""Entries that are read for a listing. A task may make as many as its disk has inodes."""
MAX_OWNER_BYTES = 128
OWNER = "owner"
"""File in a container's directory: the name of its framework's owner, who may read the sandbox."""


def open_beneath(
    containers: int, parts: Sequence[bytes], may_read: Callable[[str | None], bool]
) -> tuple[int, bool]:
    """Open the file or directory in a sandbox that the parts of a URL's path name. Returns its descriptor, and whether it is a
    directory. `may_read` is called with the owner's name, or None if that is unknown. Raises `Refused`.
    """
    if len(parts) < 2 or parts[0] != b"containers":
        raise Refused(HTTPStatus.NOT_FOUND, "files are at /containers/CONTAINER_ID/PATH")
    container_id, *inner = parts[1:]
    if not is_valid_id(container_id.decode(errors="replace")):
        raise Refused(HTTPStatus.NOT_FOUND, "no such container")
    if any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in inner):
        raise Refused(HTTPStatus.FORBIDDEN, "a path has no empty parts, no dots and no slashes in a part")
    container = step(containers, container_id)
    try:
        # For another owner's sandbox the answer is the same as for one that does not exist.
        if not may_read(_owner_of(container)):
            raise Refused(HTTPStatus.NOT_FOUND, "no such file")
        handle = step(container, b"sandbox")
    finally:
        os.close(container)
    owner = os.fstat(handle).st_uid
    for part in inner:
        above, handle = handle, -1
        try:
            handle = step(above, part)
        finally:
            os.close(above)
    try:
        return open_found(handle, owner)
    finally:
        os.close(handle)


def _owner_of(container: int) -> str | None:
    try:
        fd = os.open(OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=container)
    except OSError:
        return None
    with open(fd, "rb", buffering=0) as file:
        return file.read(MAX_OWNER_BYTES).decode(errors="replace")


def step(directory: int, name: bytes) -> int:
    """A handle of one entry. With O_PATH it is not opened, whatever it is, and cannot be exchanged any more. Raises
    `Refused`."""
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(HTTPStatus.NOT_FOUND, "no such file") from None
    except OSError as error:
        raise Refused(HTTPStatus.FORBIDDEN, f"not served: {error.strerror}") from None


def open_found(handle: int, owner: int) -> tuple[int, bool]:
    status = os.fstat(handle)
    is_directory = stat.S_ISDIR(status.st_mode)
    if not is_directory and not stat.S_ISREG(status.st_mode):
        raise Refused(HTTPStatus.FORBIDDEN, "not a regular file")
    if not is_directory and status.st_nlink > 1 and status.st_uid != owner:
        raise Refused(HTTPStatus.FORBIDDEN, "a link to another user's file")
    try:
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), is_directory
    except PermissionError:
        raise Refused(HTTPStatus.FORBIDDEN, "not readable by the slave") from None


def listing(directory: int) -> bytes:
    """A directory as JSON, sorted by name: `{"entries": [{"name", "kind", "size_bytes", "modified_s"}], "truncated": bool}`."""
    with _one_at_a_time:
        return _listing(directory)


_one_at_a_time = threading.Lock()
"""Only one listing at a time: a long one takes processor time that the slave's loop needs."""


def _listing(directory: int) -> bytes:
    with os.scandir(directory) as found:
        looked_at = itertools.islice(found, MAX_LOOKED_AT)
        names = heapq.nsmallest(MAX_LISTED + 1, (entry.name for entry in looked_at))
        is_cut = len(names) > MAX_LISTED or next(found, None) is not None
    entries = []
    for name in names[:MAX_LISTED]:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed meanwhile
        kind = (
            "file"
            if stat.S_ISREG(status.st_mode)
            else "directory"
            if stat.S_ISDIR(status.st_mode)
            else "other"
        )
        entries.append(
            {
                "name": name.encode(errors="surrogateescape").decode(errors="replace"),
                "kind": kind,
                "size_bytes": status.st_size,
                "modified_s": round(status.st_mtime, 3),
            }
        )
    return json.dumps({"entries": entries, "truncated": is_cut}).encode()
