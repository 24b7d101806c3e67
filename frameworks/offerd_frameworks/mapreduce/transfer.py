"""Transfers files to and from the slaves' file servers over HTTP, for tasks on slaves and for the framework itself.

A task imports this only if it has to ask another host: Python's HTTP takes a good part of a short task's time to import.
"""

from __future__ import annotations

import http.client
import os
import random
import time
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Self, TypeVar

import msgspec
from msgspec import Meta

from offerd import FilesConnection, FilesDoor
from offerd_frameworks.mapreduce.failures import Incomplete, ServerBusy, TokenRefused, TransferError

TIMEOUT_S = 20.0
PAUSES_S = (0.1, 0.3, 0.6, 1.0, 2.0)
"""Pauses between the tries of one request: four seconds in all, long enough for a slave that is restarted."""
BUSY_PAUSE_S = 0.5
BUSY_LIMIT_S = 60.0
"""A busy server works: others have their turn first, and then we."""
CHUNK_BYTES = 1 << 20
MAX_CONTENT_BYTES = 64 << 20
"""Most bytes of an answer that is read into memory, if no length was asked for."""
MAX_LISTED = 100_000
"""Most entries of a directory: ten times what a server lists."""
COPIED = (http.client.OK, http.client.PARTIAL_CONTENT)


class _Entry(msgspec.Struct):
    name: Annotated[str, Meta(max_length=1024)]


class _Listing(msgspec.Struct):
    entries: Annotated[list[_Entry], Meta(max_length=MAX_LISTED)]
    truncated: bool


class _Stored(msgspec.Struct):
    crc32: int


T = TypeVar("T", _Listing, _Stored)


class Server:
    """One connection to one slave's file server, opened when first used and kept. Not for several threads at once.

    Every method retries if the server is silent or busy, and finally raises `TransferError`.
    """

    def __init__(
        self,
        files: FilesDoor,
        *,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.address = files.address
        self._sleep = sleep
        self._connection = FilesConnection(files, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The file at `path` (from the root, as `/data/SET/FILE`), or a part of it."""
        if length == 0:
            return b""
        return self._request("GET", path, headers=_range(offset, length), most=length or MAX_CONTENT_BYTES)

    def copy(self, path: str, target: int, offset: int = 0, length: int | None = None) -> int:
        """Append a part of the file to the descriptor `target`; what came before a connection broke is kept.

        Returns how many bytes came. An `OSError` concerns `target`: asking the server again would not help.
        """
        done = 0
        patience = _Patience(self._sleep)
        while length is None or done < length:
            left = None if length is None else length - done
            before = done
            try:
                came = self._copy_once(path, target, offset + done, left)
                done += came
                if length is None:
                    return done
                if not came:
                    raise TransferError(f"{self.address} has only {offset + done} bytes of {path}")
            except _Interrupted as interrupted:
                done += interrupted.bytes_before
                if done > before:
                    patience = _Patience(self._sleep)
                patience.spend(interrupted.why, is_busy=interrupted.is_busy)
            except OSError:
                self._connection.close()  # an answer is not read to its end
                raise
        return done

    def listing(self, path: str) -> list[str]:
        """The names in a directory, `[]` if there is none. Raises `Incomplete` if the server does not list all."""
        try:
            answer = self._answer(path, self._request("GET", path), _Listing)
        except FileNotFoundError:
            return []
        if answer.truncated:
            raise Incomplete(f"{self.address} holds more in {path} than it lists")
        return [entry.name for entry in answer.entries]

    def put(self, path: str, content: bytes) -> None:
        """Store a file, and check that it arrived unchanged."""
        answer = self._answer(path, self._request("PUT", path, content), _Stored)
        if answer.crc32 != zlib.crc32(content):
            raise TransferError(f"{path} arrived damaged at {self.address}")

    def delete(self, path: str) -> bool:
        """Remove a file or set; returns whether it existed."""
        try:
            self._request("DELETE", path)
        except FileNotFoundError:
            return False
        return True

    # -- inside -----------------------------------------------------------------------------------------------------

    def _answer(self, path: str, content: bytes, kind: type[T]) -> T:
        """Parse an answer. Raises `TransferError` for what our servers never send."""
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise TransferError(f"{self.address}{path}: an answer that makes no sense: {error}") from None

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        most: int = MAX_CONTENT_BYTES,
    ) -> bytes:
        """Raises `FileNotFoundError` for 404, otherwise `TransferError`."""
        patience = _Patience(self._sleep)
        while True:
            try:
                response = self._ask(method, path, body, headers)
                content = response.read(most + 1)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                patience.spend(self._silent(error))
                continue
            if len(content) > most and response.status in COPIED:
                self._connection.close()
                raise TransferError(f"{self.address} sends more of {path} than can be read: {most} bytes")
            if response.status == http.client.SERVICE_UNAVAILABLE:
                self._connection.close()
                patience.spend(self._busy(), is_busy=True)
                continue
            self._check(response.status, path, content)
            return content

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        return self._connection.ask(method, path, body, headers)

    def _copy_once(self, path: str, target: int, offset: int, length: int | None) -> int:
        """Raises `_Interrupted` for errors of the server, `OSError` for errors of `target`."""
        done, headers = 0, _range(offset, length)
        buffer = memoryview(bytearray(CHUNK_BYTES))
        try:
            response = self._ask("GET", path, headers=headers)
            if response.status == http.client.SERVICE_UNAVAILABLE:
                self._connection.close()
                raise _Interrupted(done, self._busy(), is_busy=True)
            content = b"" if response.status in COPIED else response.read(MAX_CONTENT_BYTES)
            promised = int(response.headers["Content-Length"])
        except (OSError, http.client.HTTPException) as error:
            raise self._interrupted(done, error) from None
        except (TypeError, ValueError):
            self._connection.close()
            raise TransferError(f"{self.address} does not say how long {path} is") from None
        self._check(response.status, path, content)
        if length is not None and promised > length:
            self._connection.close()
            raise TransferError(f"{self.address} sends more of {path} than it was asked for")
        if headers and response.status != http.client.PARTIAL_CONTENT:
            raise TransferError(f"{self.address} has sent all of {path} instead of a part")
        while True:
            try:
                count = response.readinto(buffer)
                if not count and done < promised:
                    raise ConnectionResetError("the answer ended early")
            except (OSError, http.client.HTTPException) as error:
                raise self._interrupted(done, error) from None
            if not count:
                return done
            _write_all(target, buffer[:count])
            done += count

    def _interrupted(self, done: int, error: Exception) -> _Interrupted:
        self._connection.close()
        return _Interrupted(done, self._silent(error))

    def _check(self, status: int, path: str, content: bytes) -> None:
        if status == http.client.NOT_FOUND:
            raise FileNotFoundError(f"{self.address} has no {path}")
        if status == http.client.UNAUTHORIZED:
            raise TokenRefused(f"{self.address} does not accept our token (any more): it has expired")
        if status >= 400:
            line = content.decode(errors="replace").partition("\n")[0]
            raise TransferError(f"{self.address}{path}: {line} ({status})")

    def _silent(self, error: Exception) -> str:
        return f"{self.address} does not answer: {getattr(error, 'strerror', None) or error or type(error).__name__}"

    def _busy(self) -> str:
        return f"{self.address} is busy"


class _Patience:
    """How long one request is retried: some seconds if the server is silent, longer if it is busy."""

    def __init__(self, sleep: Callable[[float], object]) -> None:
        self._sleep = sleep
        self._pauses = list(PAUSES_S)
        self._busy_left_s = BUSY_LIMIT_S

    def spend(self, why: str, *, is_busy: bool = False) -> None:
        """Sleep before the next try. Raises `TransferError` when the time is used up."""
        if not is_busy:
            if not self._pauses:
                raise TransferError(why)
            self._sleep(self._pauses.pop(0))
            return
        if self._busy_left_s <= 0:
            raise ServerBusy(why)
        # Random, so that not all refused clients come back at once.
        pause_s = random.uniform(0.5, 1.5) * BUSY_PAUSE_S
        self._busy_left_s -= pause_s
        self._sleep(pause_s)


class _Interrupted(Exception):
    def __init__(self, bytes_before: int, why: str, *, is_busy: bool = False) -> None:
        super().__init__(why)
        self.is_busy = is_busy
        self.bytes_before = bytes_before
        self.why = why


def _range(offset: int, length: int | None) -> dict[str, str]:
    if not offset and length is None:
        return {}
    return {"Range": f"bytes={offset}-{'' if length is None else offset + length - 1}"}


def _write_all(target: int, data: memoryview) -> None:
    while data:
        data = data[os.write(target, data) :]
