"""Reads what tasks have written, from their slaves, in a few threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from offerd.errors import OfferdError
from offerd.files_access import NO_ACCESS, FilesAccess
from offerd.files_client import FileNotServed, FilesClient
from offerd.ids import ContainerID
from offerd.operator import OperatorClient
from offerd.operator_messages import TaskSummary
from offerd.tasks.sandbox_files import AWAY_S, SandboxFiles, SandboxLog, Unreachable, place_in_sandbox
from offerd.workers import Workers
from offerd_web.services.desk import Desk
from offerd_web.services.refusal import Refusal, not_found
from offerd_web.services.slave_metrics import fetch

T = TypeVar("T")

THREADS = 8
MOST_READERS = 64
"""Logs and files that are read at the same time."""
POLL_S = 0.2
LOOK_AGAIN_S = 2.0
"""How long after a failed look a followed log is looked at again."""
PIECE_BYTES = 256 << 10


class Place(NamedTuple):
    """Where a task's files are."""

    files: FilesAccess
    container_id: str
    path: str
    """Below the container's sandbox; empty: the sandbox itself."""

    def below(self, path: str) -> str:
        return f"{self.path}/{path}".strip("/")


class Sandboxes:
    """Reads logs and files for callers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._workers = Workers(THREADS, "sandboxes")
        self._readers = 0
        self._is_ending = False

    def end(self) -> None:
        """End the logs that are followed."""
        self._is_ending = True

    def close(self) -> None:
        """Let the threads end."""
        self._workers.shutdown(wait=False)

    async def place(self, framework_id: str, task_id: str) -> Place:
        """Where this task's files are, as the master knows. Raises `Refusal` if it knows no such task, or it never ran."""

        def look(client: OperatorClient) -> tuple[TaskSummary, FilesAccess] | None:
            for task in client.find_task(task_id):
                if task.framework_id == framework_id:
                    return task, client.files.get(task.slave_id, NO_ACCESS)
            return None

        found = await self._desk.ask(look)
        if found is None:
            raise not_found(
                "task", task_id, "the master; a sandbox can be read as long as it knows the task, /v1/tasks"
            )
        task, files = found
        container_id, path = place_in_sandbox(task.sandbox)
        if not container_id:
            why = task.message or task.reason or "it has no container yet"
            raise Refusal(HTTPStatus.CONFLICT, f"task {task_id} has written nothing: {why}")
        return Place(files, container_id, path)

    # -- logs -----------------------------------------------------------------------------------------------------------

    async def log(
        self, place: Place, name: str, skip_bytes: int, is_open: Callable[[], bool] | None
    ) -> AsyncGenerator[bytes, None]:
        """The log `name`, without its first bytes, piece by piece. `is_open`: follow it while this is true. The first look is
        made at once: raises `Refusal` if it fails.
        """
        files = SandboxFiles()
        log = SandboxLog(files, place.files, place.container_id, place.below(name))
        self._enter()
        try:
            first = await self._run(log.read)
        except Unreachable as error:
            files.close()
            raise Refusal(HTTPStatus.BAD_GATEWAY, str(error)) from None
        except BaseException:
            files.close()
            raise
        finally:
            self._readers -= 1
        return self._pieces(log, files, first, skip_bytes, is_open)

    async def _pieces(
        self,
        log: SandboxLog,
        files: SandboxFiles,
        piece: bytes,
        skip_bytes: int,
        is_open: Callable[[], bool] | None,
    ) -> AsyncGenerator[bytes, None]:
        # It counts as a reader from here: where the client has gone already, this never begins, and so would never end.
        self._enter()
        try:
            away_s = 0.0
            while True:
                # Asked before the look, so that all that was written before the end is read.
                is_over = self._is_ending or is_open is None or not is_open()
                while piece:
                    if skip_bytes < len(piece):
                        yield piece[skip_bytes:]
                    skip_bytes = max(0, skip_bytes - len(piece))
                    piece = await self._run(log.read)
                if is_over:
                    return
                await asyncio.sleep(LOOK_AGAIN_S if away_s else POLL_S)
                try:
                    piece = await self._run(log.read)
                    away_s = 0.0
                except Unreachable:
                    away_s += LOOK_AGAIN_S
                    if away_s > AWAY_S:
                        return
        finally:
            self._readers -= 1
            files.close()

    # -- files ----------------------------------------------------------------------------------------------------------

    async def listing(self, place: Place, path: str) -> Any:
        """The entries of a directory, as its slave lists them. Raises `Refusal`."""
        return await self._read(
            place, lambda client: client.listing(ContainerID(place.container_id), place.below(path)), path
        )

    async def piece(self, place: Place, path: str, offset: int, length: int) -> bytes:
        """A piece of a file. Raises `Refusal`."""
        file = place.below(path)
        return await self._read(
            place, lambda client: client.read(ContainerID(place.container_id), file, offset, length), path
        )

    async def metrics(self, files: FilesAccess) -> bytes:
        """A slave's metrics. Raises `SlaveMetricsUnavailable`, and `Refusal` where too much is read already."""
        self._enter()
        try:
            return await self._run(lambda: fetch(files))
        finally:
            self._readers -= 1

    async def _read(self, place: Place, read: Callable[[FilesClient], T], path: str) -> T:
        def with_client() -> T:
            with FilesClient(place.files) as client:
                return read(client)

        self._enter()
        try:
            return await self._run(with_client)
        except FileNotServed:
            raise not_found("file", path or "/", "the task's directory") from None
        except OfferdError as error:
            raise Refusal(HTTPStatus.BAD_GATEWAY, str(error)) from None
        finally:
            self._readers -= 1

    def _enter(self) -> None:
        if self._readers >= MOST_READERS:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MOST_READERS} logs and files are being read already; try again",
            )
        self._readers += 1

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._workers.submit(function))
