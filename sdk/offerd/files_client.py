"""Reads files from a slave's file server: sandboxes, output of tasks, large results.

A file's path there is `/containers/<container_id>/<path in the sandbox>`. The access comes with the offer (`files`) and with
the operators' listings, the container id with the task's status.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from offerd.errors import OfferdError, OutputLost
from offerd.files_connection import FilesConnection, WrongServer
from offerd.files_door import FilesDoor
from offerd.ids import ContainerID
from offerd.tasks.log_reader import Answer, LogReader, answer_of
from offerd.wire.closing import Closing

CHUNK_BYTES = 1 << 20
"""Most bytes read at once by `follow`: memory stays bounded however large the file is."""
POLL_S = 0.1
MAX_LISTING_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10
"""Most bytes read of an error's body, which is one line for people."""


class FileNotServed(OfferdError):
    """The slave does not have this file, or has removed it."""


class FilesClient(Closing):
    """Reads files of tasks from one slave.

        with FilesClient(driver.files(status.slave_id)) as files:
            output = files.read(status.container_id, f"tasks/{status.task_id}/stdout")

    `files` comes from an offer, `SchedulerDriver.files`, or a listing of `OperatorClient`. One connection is kept open
    between requests; not from several threads at once. Every method raises `FileNotServed` if the file is not there, and
    `OfferdError` if the server does not answer within `timeout_s` seconds or answers with an error.
    """

    def __init__(self, files: FilesDoor, *, timeout_s: float = 10.0) -> None:
        self.files_address = files.address
        self._connection = FilesConnection(files, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the connection; a later request opens it again. Leaving a `with` block calls this."""
        self._connection.close()

    def read(self, container_id: ContainerID, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The content of a file of the sandbox from byte `offset` on, `length` bytes at most (None: all); empty at its end."""
        if length == 0:
            return b""
        last = "" if length is None else str(offset + length - 1)
        headers = {"Range": f"bytes={offset}-{last}"} if offset or length is not None else {}
        response, body = self._get(container_id, path, headers, length, offset)
        match response.status:
            case http.client.OK:
                # The server does not know ranges, or the file is empty, and an empty file has no range.
                return body[offset:] if length is None else body[offset : offset + length]
            case http.client.PARTIAL_CONTENT:
                return body
            case http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b""
            case http.client.NOT_FOUND:
                raise FileNotServed(f"{self.files_address} has no file {path} of {container_id}")
        raise OfferdError(f"the file server at {self.files_address}: {response.status} {_first_line(body)}")

    def follow(
        self,
        container_id: ContainerID,
        path: str,
        *,
        is_over: Callable[[], bool],
        offset: int = 0,
        poll_s: float = POLL_S,
        sleep: Callable[[float], object] = time.sleep,
        written_bytes: Callable[[], int | None] = lambda: None,
    ) -> Iterator[bytes]:
        """The content of a file piece by piece as it grows, from byte `offset` on, also through rotations. A file that is not
        there yet is waited for.

        * `is_over`: asked between looks; when it says True, this ends with what has been written by then.
        * `poll_s`: seconds between two looks.
        * `sleep`: called to wait; give an `Event().wait` to be woken early.
        * `written_bytes`: asked at the end: how much the task has written, as `output` of its last status says; None: unknown.

        Raises `OutputLost`, after all that is there, if that is less than was written.
        """
        log = LogReader(lambda path, start: self._look(container_id, path, start), path)
        while True:
            # Asked before reading, so that everything written before the end is read after it.
            is_last = is_over()
            if piece := log.read():
                before = log.received_bytes - len(piece)
                if piece := piece[max(0, offset - before) :]:
                    yield piece
            elif is_last:
                break
            else:
                sleep(poll_s)
        written = written_bytes()
        missing = None if written is None else log.missing_bytes(written)
        if missing or (missing is None and log.has_gaps):
            how_much = f"{missing} of {written} bytes" if missing else "a part"
            raise OutputLost(f"{how_much} of {path} of {container_id} can no longer be read", missing)

    def _look(self, container_id: ContainerID, path: str, offset: int) -> Answer:
        headers = {"Range": f"bytes={offset}-{offset + CHUNK_BYTES - 1}"}
        response, body = self._get(container_id, path, headers, CHUNK_BYTES, offset)
        answer = answer_of(response, body, offset)
        if answer is None:
            raise OfferdError(
                f"the file server at {self.files_address}: {response.status} {_first_line(body)}"
            )
        return answer

    def listing(self, container_id: ContainerID, path: str = "") -> Any:
        """The entries of a directory of the sandbox, as the server's JSON."""
        response, body = self._get(container_id, path, {}, MAX_LISTING_BYTES)
        status = response.status
        if status == http.client.NOT_FOUND:
            raise FileNotServed(f"{self.files_address} has no directory {path or '/'} of {container_id}")
        if status != http.client.OK:
            raise OfferdError(f"the file server at {self.files_address}: {status} {_first_line(body)}")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise OfferdError(f"{path} of {container_id} is a file, not a directory") from None

    def _get(
        self, container_id: ContainerID, path: str, headers: dict[str, str], most: int | None, offset: int = 0
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer and its body. With `most` None the caller wants all of a file, however large."""
        for is_fresh in (self._connection.sock is None, True):
            try:
                response = self._connection.ask("GET", f"/containers/{container_id}/{path}", headers=headers)
                if response.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
                    most = MAX_ERROR_BYTES
                if most is None:
                    return response, response.read()
                if headers and response.status == http.client.OK and offset + most < (response.length or 0):
                    # A server that does not know ranges sends the whole file: the rest is left unread.
                    body = response.read(offset + most)
                    self._connection.close()
                    return response, body
                return response, self._connection.content(response, offset + most)
            except WrongServer:
                raise
            except (http.client.BadStatusLine, BrokenPipeError, ConnectionResetError) as error:
                # That the server has closed a kept connection shows only now; a fresh connection is tried once.
                self._connection.close()
                if is_fresh:
                    raise self._unanswered(error) from None
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                raise self._unanswered(error) from None
        raise AssertionError("a fresh connection either answers or raises")

    def _unanswered(self, error: Exception) -> OfferdError:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return OfferdError(f"the slave's file server at {self.files_address} does not answer: {why}")


def _first_line(body: bytes) -> str:
    return body.decode("utf-8", "replace").partition("\n")[0][:200]
