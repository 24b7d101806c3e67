"""Reads files of sandboxes over the slaves' HTTP file servers, one connection kept for each slave."""

from __future__ import annotations

import http.client
from typing import NamedTuple
from urllib.parse import quote

from offerd.errors import OfferdError

CHUNK_BYTES = 256 << 10
TIMEOUT_S = 10.0


class Unreachable(OfferdError):
    """The file server does not answer, or not with a file."""


class Chunk(NamedTuple):
    """A part of a file, and where the next one begins."""

    content: bytes
    next_offset: int


class SandboxFiles:
    """Not for several threads at once."""

    def __init__(self) -> None:
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def read(self, address: str, container_id: str, path: str, offset: int) -> Chunk | None:
        """What is in the file from `offset` on, or None if nothing is (or no such file exists yet).

        Raises `Unreachable` with one line.
        """
        status, content, size = self._get(address, container_id, path, offset)
        if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and size is not None and size < offset:
            return self._read_rotated(address, container_id, path, offset)
        if offset == 0 and content:  # whoever begins to read late begins with the older part
            return self._read_rotated(address, container_id, path, 0)
        return Chunk(content, offset + len(content)) if content else None

    def _read_rotated(self, address: str, container_id: str, path: str, offset: int) -> Chunk | None:
        """The file began anew: what we have not read of the old one, then the new one from its start."""
        rest = b""
        while True:
            _, content, _ = self._get(address, container_id, f"{path}.1", offset + len(rest))
            rest += content
            if not content:
                break
        _, content, _ = self._get(address, container_id, path, 0)
        return Chunk(rest + content, len(content))

    def _get(self, address: str, container_id: str, path: str, offset: int) -> tuple[int, bytes, int | None]:
        """`(HTTP status, content, size of the file if the answer says it)`."""
        url = f"/containers/{quote(container_id)}/{quote(path)}?offset={offset}&length={CHUNK_BYTES}"
        for is_second_try in (False, True):
            connection = self._connections.get(address)
            if connection is None:
                is_second_try = True
                connection = self._connections[address] = http.client.HTTPConnection(
                    address, timeout=TIMEOUT_S
                )
            try:
                connection.request("GET", url)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                del self._connections[address]
                # A kept connection may have been closed by the server as idle: a new one tells.
                if is_second_try:
                    raise Unreachable(f"the slave's files at {address} cannot be read: {error}") from None
                continue
            if response.status in (http.client.OK, http.client.PARTIAL_CONTENT):
                return response.status, content, None
            if response.status in (http.client.NOT_FOUND, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
                return response.status, b"", _size(response)
            raise Unreachable(f"{address}{url}: {response.status} {content.decode(errors='replace').strip()}")
        raise AssertionError("the second try returns or raises")


def _size(response: http.client.HTTPResponse) -> int | None:
    """Of the file, from `Content-Range: bytes */SIZE`."""
    size = (response.getheader("Content-Range") or "").rpartition("/")[2]
    return int(size) if size.isdigit() else None
