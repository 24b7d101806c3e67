"""Routes that read what tasks have written."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import Parameter
from litestar.response import Stream

from offerd.errors import OfferdError
from offerd.ids import FrameworkID, TaskID
from offerd_web.api.common import IDENTIFIER, errors, streamed
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context
from offerd_web.services.refusal import Refusal, not_found
from offerd_web.services.sandboxes import PIECE_BYTES, Place, Sandboxes

Identifier = Annotated[str, IDENTIFIER]
FilePath = Annotated[str, Parameter(max_length=4096, description="Below the task's directory.")]
Offset = Annotated[
    int, Parameter(ge=0, le=1 << 53, description="How many bytes at its beginning are left out.")
]
TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"


class LogName(StrEnum):
    """What a task writes to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class FileEntry(msgspec.Struct):
    """An entry of a directory."""

    name: str
    kind: str
    """file | directory | other."""
    size_bytes: int
    modified_s: float
    """Unix time in seconds."""


class Listing(msgspec.Struct):
    """A directory."""

    entries: list[FileEntry]
    truncated: bool
    """There are more."""


@get(
    "/frameworks/{framework:str}/tasks/{task:str}/logs/{name:str}",
    media_type=TEXT,
    summary="What a task has written",
    responses=errors(404, 409, 422),
)
async def log(
    context: Context,
    sandboxes: Sandboxes,
    caller: Caller,
    exits: AsyncExitStack,
    framework: Identifier,
    task: Identifier,
    name: LogName,
    offset: Offset = 0,
    follow: Annotated[bool, Parameter(description="Go on until the task has ended.")] = False,
) -> Stream:
    """The end of a long log is kept, and sent as it is. A Python call has its executor's log, with that of other calls."""
    place = await _place(sandboxes, caller, framework, task)
    key = FrameworkID(framework), TaskID(task)
    is_open = (lambda: key in context.view.replica.tasks) if follow else None
    return streamed(_whole(await sandboxes.log(place, name.value, offset, is_open)), exits, TEXT)


@get(
    "/frameworks/{framework:str}/tasks/{task:str}/files",
    summary="The files of a task",
    responses=errors(404, 409, 422),
)
async def files(
    sandboxes: Sandboxes, caller: Caller, framework: Identifier, task: Identifier, path: FilePath = ""
) -> Listing:
    """The entries of a directory. A Python call has its executor's."""
    place = await _place(sandboxes, caller, framework, task)
    found: Any = await sandboxes.listing(place, _checked(path))
    try:
        return msgspec.convert(found, Listing)
    except msgspec.ValidationError as error:
        raise Refusal(HTTPStatus.BAD_GATEWAY, f"the slave's answer is not valid: {error}") from None


@get(
    "/frameworks/{framework:str}/tasks/{task:str}/files/content",
    media_type=BYTES,
    summary="A file of a task",
    responses=errors(404, 409, 422),
)
async def content(
    sandboxes: Sandboxes,
    caller: Caller,
    exits: AsyncExitStack,
    framework: Identifier,
    task: Identifier,
    path: FilePath,
    offset: Offset = 0,
) -> Stream:
    """As it is now, to its end."""
    place = await _place(sandboxes, caller, framework, task)
    wanted = _checked(path)
    first = await sandboxes.piece(place, wanted, offset, PIECE_BYTES)

    async def pieces(piece: bytes) -> AsyncGenerator[bytes, None]:
        at = offset
        while piece:
            yield piece
            at += len(piece)
            if len(piece) < PIECE_BYTES:
                return
            piece = await sandboxes.piece(place, wanted, at, PIECE_BYTES)

    return streamed(_whole(pieces(first)), exits, BYTES, {"Content-Disposition": "attachment"})


async def _place(sandboxes: Sandboxes, caller: Caller, framework: str, task: str) -> Place:
    if not caller.sees(framework):
        raise not_found("task", task, "/v1/tasks")
    return await sandboxes.place(framework, task)


def _checked(path: str) -> str:
    """Raises `Refusal` for a path that leads elsewhere."""
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"path={path} is not a path below the task's directory"
        )
    return path


async def _whole(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A failure in the middle ends the connection, so that nobody takes the part for the whole."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except OfferdError as error:
        raise ConnectionAbortedError(str(error)) from None


ROUTES = [log, files, content]
