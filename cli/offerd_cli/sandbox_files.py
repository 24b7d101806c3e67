"""Reads growing and rotated files of sandboxes over the slaves' HTTP file servers, one connection kept for each slave.

A log that reached its size is renamed to `NAME.1` and begun anew. Which file an answer is of, its `ETag` says (it names
the inode); so a reader knows that the file was rotated under it, and reads the rest of the old one first.
"""

from __future__ import annotations

import http.client
import sys
from typing import NamedTuple

from offerd.errors import OfferdError
from offerd.files_connection import FilesConnection
from offerd.files_door import FilesDoor

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 10.0
MAX_DIGITS = 20
"""Of a file's size."""


class Unreachable(OfferdError):
    """The file server does not answer, or not with a file."""


class Answer(NamedTuple):
    """`tag` tells one file from another; None if there is no such file."""

    tag: str | None
    content: bytes = b""


class SandboxFiles:
    """Connections to file servers. Not for several threads at once."""

    def __init__(self) -> None:
        self._connections: dict[str, FilesConnection] = {}

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def get(self, files: FilesDoor, container_id: str, path: str, offset: int) -> Answer:
        """At most `CHUNK_BYTES` of the file from `offset`. Raises `Unreachable` with one line."""
        url = f"/containers/{container_id}/{path}"
        response, content = self._request(files, url, f"bytes={offset}-{offset + CHUNK_BYTES - 1}")
        match response.status:
            case http.client.OK | http.client.PARTIAL_CONTENT:
                return Answer(response.getheader("ETag") or "", content)
            case http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                # A file that is shorter than what was read of it is another one: file systems use inodes again at once.
                is_another = _size(response) < offset
                return Answer("another" if is_another else response.getheader("ETag") or "")
            case http.client.NOT_FOUND:
                return Answer(None)
        raise Unreachable(
            f"{files.address}{url}: {response.status} {content.decode(errors='replace').strip()}"
        )

    def _request(self, files: FilesDoor, url: str, part: str) -> tuple[http.client.HTTPResponse, bytes]:
        """A kept connection may have been closed by the server as idle: then a new one is tried, once."""
        kept = self._connections.pop(files.address, None)
        for connection in (kept, FilesConnection(files, timeout_s=TIMEOUT_S)):
            if connection is None:
                continue
            connection.door = files
            try:
                response = connection.ask("GET", url, headers={"Range": part})
                content = connection.content(response, CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                failure = error
                continue
            self._connections[files.address] = connection
            return response, content
        raise Unreachable(f"the slave's files at {files.address} cannot be read: {failure}")


class LogReader:
    """Reads one log from its beginning, through rotations. `has_gaps` when a part was gone before it was read."""

    def __init__(self, files: SandboxFiles, door: FilesDoor, container_id: str, path: str) -> None:
        self._files = files
        self._door = door
        self._container_id = container_id
        self._path = path
        self._tag: str | None = None  # of the file that we are in; None before the first byte
        self._offset = 0
        self._is_in_old = False
        self.has_gaps = False

    def renew(self, door: FilesDoor) -> None:
        """Go on with newer access to the same file."""
        self._door = door

    def read(self) -> bytes:
        """What is new, a piece at a time; empty if nothing is for now. Raises `Unreachable`."""
        if self._tag is None:
            return self._begin()
        return self._read_old() if self._is_in_old else self._read_current()

    def _begin(self) -> bytes:
        current = self._get(self._path, 0)
        if current.tag is None:
            return b""
        # Whoever begins late begins with the older part.
        old = self._get(f"{self._path}.1", 0)
        return self._enter(current if old.tag is None else old, is_old=old.tag is not None)

    def _read_current(self) -> bytes:
        current = self._get(self._path, self._offset)
        if current.tag == self._tag:
            return self._move(current.content)
        # Rotated under us, or for the moment between a rename and the next byte not there at all.
        return self._read_old()

    def _read_old(self) -> bytes:
        current = self._get(self._path, 0)
        old = self._get(f"{self._path}.1", self._offset)
        if old.tag == self._tag:
            self._is_in_old = True
            if old.content or current.tag is None:
                return self._move(old.content)
            return self._enter(current, is_old=False)
        if self._get(self._path, self._offset).tag == self._tag:  # named anew between two requests
            self._is_in_old = False
            return b""
        self.has_gaps = True
        self._tag = None
        return self._begin()

    def _enter(self, answer: Answer, *, is_old: bool) -> bytes:
        self._tag, self._offset, self._is_in_old = answer.tag, 0, is_old
        return self._move(answer.content)

    def _move(self, content: bytes) -> bytes:
        self._offset += len(content)
        return content

    def _get(self, path: str, offset: int) -> Answer:
        return self._files.get(self._door, self._container_id, path, offset)


def _size(response: http.client.HTTPResponse) -> int:
    """Of the file, from `Content-Range: bytes */SIZE`; where it is not said, as large as can be."""
    size = (response.getheader("Content-Range") or "").rpartition("/")[2]
    return int(size) if size.isascii() and size.isdigit() and len(size) < MAX_DIGITS else sys.maxsize
