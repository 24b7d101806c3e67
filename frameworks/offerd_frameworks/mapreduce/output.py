"""A job's output directory: it appears whole, under its name, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from offerd import BadInput, OfferdError
from offerd_frameworks.mapreduce.job import check_output
from offerd_frameworks.mapreduce.transfer import Server

SUCCESS = "_SUCCESS"


class OutputDirectory:
    """Parts are gathered beside the directory to be, and become it by one rename."""

    def __init__(self, output: str) -> None:
        """Make the place for the parts. Raises `BadInput` where that cannot be."""
        check_output(output)
        self.path = Path(output).absolute()
        self._gathering = self.path.parent / f".{self.path.name}.{secrets.token_hex(4)}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._gathering.mkdir()
        except OSError as error:
            raise BadInput(f"cannot write into {self.path.parent}: {error.strerror}") from None

    def save(self, part: int, address: str, path: str) -> int:
        """Bring one part from a slave's file server; its size. Raises `TransferError`, `FileNotFoundError`, `OSError`."""
        target = self._gathering / part_name(part)
        with open(target, "wb") as file, Server(address) as server:
            size = server.copy(path, file.fileno())
            os.fsync(file.fileno())
        return size

    def publish(self) -> None:
        """All parts are there: give them their name. Raises `OfferdError` if somebody else has taken it meanwhile."""
        (self._gathering / SUCCESS).touch()
        try:
            os.rename(self._gathering, self.path)
        except OSError as error:
            raise OfferdError(
                f"the output is complete in {self._gathering}, but cannot be called {self.path}: {error.strerror}"
            ) from None

    def discard(self) -> None:
        """The job came to nothing."""
        shutil.rmtree(self._gathering, ignore_errors=True)


def part_name(part: int) -> str:
    return f"part-{part:05d}"
