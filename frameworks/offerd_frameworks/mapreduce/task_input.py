"""The input of a map task: files by path, a block in this slave's data directory, or a copy of a block from another slave."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from offerd import FilesPass
from offerd_frameworks.mapreduce import digests
from offerd_frameworks.mapreduce.compressed import is_compressed
from offerd_frameworks.mapreduce.failures import TransferError

COPY = "input"


@dataclass
class Source:
    """`how` the input is read: "path", "local" (in place) or "remote" (`block` is then a copy to be removed)."""

    how: str
    block: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    """The lines of compressed files, by name, once they have been counted."""

    def path_of(self, piece: list[Any]) -> str:
        """The file that holds a piece, at the piece's offset."""
        return self.block or str(piece[0])

    def is_compressed(self, piece: list[Any]) -> bool:
        """Whether the piece is the contents of a compressed file, which is then the whole block."""
        return is_compressed(str(piece[0]))

    def close(self) -> None:
        if self.how == "remote":
            os.unlink(self.block)


def open_source(task: dict[str, Any]) -> Source:
    """Find the input of a map task; copy a block that is not on this slave. Raises `TransferError`."""
    block = task["block"]
    if not block:
        for name, *_ in task["pieces"]:
            if not os.access(name, os.R_OK):
                raise TransferError(
                    f"this slave cannot read {name}; put it on all hosts, or use `offerd data put`"
                )
        return Source("path")
    size = sum(length for _, _, length, _ in task["pieces"])
    here = os.path.join(os.environ["OFFERD_DATA_DIR"], block)
    if os.environ["OFFERD_SLAVE_ID"] in [slave_id for slave_id, _ in task["places"]] and _is_whole(
        here, size
    ):
        return Source("local", here)
    places = [files for _, files in task["places"]]
    # Tasks should not all use the same replica.
    random.shuffle(places)
    fetch_first(places, f"{task['data']}/{block}", COPY, size, task["sha256"])
    return Source("remote", os.path.abspath(COPY))  # the commands work in another directory


def _is_whole(path: str, size: int) -> bool:
    return os.access(path, os.R_OK) and os.stat(path).st_size == size


def fetch_first(doors: list[list[str]], path: str, target: str, size: int, sha256: str) -> None:
    """Copy a file from the first server that has it with this size and digest. A door is a `FilesPass` in JSON. Raises
    `TransferError`.
    """
    # Imported only here: Python's HTTP takes a good part of a short task's time to import.
    from offerd_frameworks.mapreduce.transfer import Server

    why = f"no slave has {path}"
    for door in doors:
        try:
            with Server(FilesPass(*door)) as server, open(target, "wb") as file:
                found = server.copy(path, file.fileno(), 0, size)
        except (TransferError, FileNotFoundError) as error:
            why = str(error)
            continue
        if found != size:
            why = f"{path} at {door[0]} has {found} bytes instead of {size}"
        elif digests.of_file(target) != sha256:
            why = f"{path} at {door[0]} has changed (its SHA-256 differs)"
        else:
            return
    with suppress(FileNotFoundError):
        os.unlink(target)
    raise TransferError(why)
