"""Reads growing and rotated files of sandboxes from the slaves' HTTP file servers, over one kept connection to each."""

from __future__ import annotations

import http.client

from offerd.errors import OfferdError
from offerd.files_connection import FilesConnection
from offerd.files_door import FilesDoor
from offerd.tasks.log_reader import Answer, LogReader, answer_of

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 10.0
AWAY_S = 30.0
"""How long a file server may be away while somebody waits for an output: its slave or the master may be restarting..."""
NO_ACCESS_S = 5.0
"""... and how long the master may take to report its new address."""


class Unreachable(OfferdError):
    """The file server does not answer, or answers without the file."""


def patience_s(door: FilesDoor) -> float:
    """How long it is worth waiting for an unreachable file server."""
    return AWAY_S if door.address else NO_ACCESS_S


class SandboxFiles:
    """Connections to file servers. To be used by one thread at a time."""

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
        if (answer := answer_of(response, content, offset)) is not None:
            return answer
        raise Unreachable(
            f"{files.address}{url}: {response.status} {content.decode(errors='replace').strip()}"
        )

    def _request(self, files: FilesDoor, url: str, part: str) -> tuple[http.client.HTTPResponse, bytes]:
        """The server may have closed a kept connection because it was idle; then a new one is tried once."""
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
        where = f" at {files.address}" if files.address else ""
        raise Unreachable(f"the slave's files{where} cannot be read: {failure}")


class SandboxLog(LogReader):
    """One log of a task, read across rotations."""

    def __init__(self, files: SandboxFiles, door: FilesDoor, container_id: str, path: str) -> None:
        super().__init__(lambda name, offset: files.get(self._door, container_id, name, offset), path)
        self._door = door

    def renew(self, door: FilesDoor) -> None:
        """Go on with newer access to the same file."""
        self._door = door


def place_in_sandbox(sandbox: str) -> tuple[str, str]:
    """The container and the path in it, of `containers/CONTAINER/PATH`; empty while the task has none."""
    container_id, _, path = sandbox.strip("/").removeprefix("containers/").partition("/")
    return container_id, path
