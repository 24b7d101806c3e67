"""Usage figures of tasks, requested from each slave's HTTP server: `GET /statistics` (`offerd_slave.statistics`).

A slave's answer is checked: it must have the expected fields.
"""

from __future__ import annotations

import http.client
from typing import Any

import msgspec

from offerd.files_access import FilesAccess
from offerd.files_connection import FilesConnection

TIMEOUT_S = 3.0
MAX_DOCUMENT_BYTES = 32 << 20

Document = dict[str, Any]


class _Usage(msgspec.Struct):
    cpu_s: float
    mem_bytes: int
    peak_mem_bytes: int
    processes: int
    throttled_s: float
    cpu_pressure: float
    mem_pressure: float
    io_pressure: float


class _Executor(msgspec.Struct):
    container_id: str
    framework_id: str
    executor_id: str
    tasks: int
    cpus: float
    usage: _Usage | None


class _Task(msgspec.Struct):
    task_id: str
    framework_id: str
    container_id: str
    name: str
    state: str
    cpus: float
    mem_bytes: int
    usage: _Usage | None


class _Statistics(msgspec.Struct):
    hostname: str
    monotonic_s: float
    executors: list[_Executor]
    tasks: list[_Task]


_decode = msgspec.json.Decoder(_Statistics).decode


def read(text: bytes) -> Document:
    """The document with the fields above. Raises `ValueError` with one line on anything else."""
    try:
        return msgspec.to_builtins(_decode(text))  # type: ignore[no-any-return]
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"its answer is not valid: {error}") from None


def ask(files: FilesAccess) -> Document | str:
    """The document, or the reason why there is none."""
    connection = FilesConnection(files, timeout_s=TIMEOUT_S)
    try:
        answer = connection.ask("GET", "/statistics")
        if answer.status != http.client.OK:
            return f"{answer.status} {answer.reason}"
        return read(connection.content(answer, MAX_DOCUMENT_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
