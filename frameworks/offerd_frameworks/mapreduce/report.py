"""A task's report at its end, as the framework reads it: checked like everything that comes from a slave."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

Amount = Annotated[int, Meta(ge=0, le=2**62)]
Counter = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Key = Annotated[str, Meta(pattern=r"\A[\x00-\xff]*\Z")]
"""Bytes, as Latin-1."""
Text = Annotated[str, Meta(max_length=4000)]


class Report(msgspec.Struct):
    """The fields of all tasks' reports; each task leaves out those that do not apply."""

    output_bytes: Amount | UnsetType = UNSET
    output_records: Amount | UnsetType = UNSET
    output_sha256: Digest | UnsetType = UNSET
    index_sha256: Digest | UnsetType = UNSET
    input_bytes: Amount | UnsetType = UNSET
    input_records: Amount | UnsetType = UNSET
    read: Text | UnsetType = UNSET
    tabs: bool | UnsetType = UNSET
    samples: list[tuple[Key, Amount]] | UnsetType = UNSET
    shuffled_local_bytes: Amount | UnsetType = UNSET
    shuffled_remote_bytes: Amount | UnsetType = UNSET
    error: str | UnsetType = UNSET
    unfetchable: list[Amount] | UnsetType = UNSET
    counters: dict[str, Counter] | UnsetType = UNSET
    seconds: float | UnsetType = UNSET


class Said(msgspec.Struct):
    """How far a task is."""

    phase: Text = ""
    bytes: Amount = 0
    status: Text = ""


_report = msgspec.json.Decoder(Report)
_said = msgspec.json.Decoder(Said)


def read_report(content: bytes) -> dict[str, Any]:
    """Read a report. Raises `ValueError` if it is invalid."""
    try:
        found: dict[str, Any] = msgspec.to_builtins(_report.decode(content))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a task's report: {error}") from None
    return found


def read_said(content: bytes) -> Said:
    """Read a task's progress. Raises `ValueError` if it is invalid."""
    try:
        return _said.decode(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a task's progress: {error}") from None
