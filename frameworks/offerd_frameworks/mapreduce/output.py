"""A job's output directory: it appears whole, under its name, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from offerd import BadInput, FilesDoor, OfferdError
from offerd_frameworks.mapreduce import digests
from offerd_frameworks.mapreduce.failures import TransferError
from offerd_frameworks.mapreduce.job import check_output
from offerd_frameworks.mapreduce.transfer import Server

SUCCESS = "_SUCCESS"
LONGEST_NAME_BYTES = 200
"""Of a name of ours beside the output: a longer one that may just be could not be made longer."""


class OutputDirectory:
    """Parts are gathered beside the directory to be, and become it by one rename.

    What is being saved lies apart from the parts, a file for each attempt: an attempt that was overtaken spoils nothing.
    """

    def __init__(self, output: str) -> None:
        """Make the place for the parts. Raises `BadInput` where that cannot be, or they could not get their name in the end."""
        check_output(output)
        self.path = Path(output).absolute()
        self._made = [parent for parent in self.path.parents if not parent.exists()]
        begins = os.fsdecode(os.fsencode(self.path.name)[:LONGEST_NAME_BYTES])
        self._base = self.path.parent / f".{begins}.{secrets.token_hex(4)}"
        self._parts = self._base / "parts"
        self._saving = self._base / "saving"
        try:
            self._parts.mkdir(parents=True)
            self._saving.mkdir()
            with suppress(FileNotFoundError):
                os.lstat(self._base / self.path.name)  # whether there can be such a name
            if self.path.exists():
                # Of several things that forbid it (a mount, the sticky bit, an attribute) none can be asked for beforehand.
                probe = self._base / "probe"
                probe.mkdir()
                _take_over(self.path, probe)
                os.rename(probe, self.path)
        except OSError as error:
            self.discard()
            what = (
                "cannot write into"
                if error.filename2 is None
                else f"the output {self.path} cannot be replaced in"
            )
            raise BadInput(f"{what} {self.path.parent}: {error.strerror}") from None

    def save(self, attempt: str, files: FilesDoor, path: str, size: int, sha256: str) -> None:
        """Bring an attempt's output from a slave's file server, if it is what the attempt said of it. Raises `TransferError`,
        and `OSError` of this host's disk.
        """
        with open(self._saving / attempt, "wb") as file, Server(files) as server:
            try:
                found = server.copy(path, file.fileno(), 0, size)
            except FileNotFoundError as error:
                raise TransferError(str(error)) from None
            if found != size:
                raise TransferError(f"{files.address}{path} has {found} bytes in place of {size}")
            digests.check(digests.of_file(self._saving / attempt), sha256, f"{files.address}{path}")
            os.fsync(file.fileno())

    def keep(self, part: int, attempt: str) -> None:
        """What was saved of this attempt is the part. Raises `OSError`."""
        os.rename(self._saving / attempt, self._parts / part_name(part))

    def drop(self, attempt: str) -> None:
        """What was saved of this attempt is not wanted."""
        with suppress(OSError):  # it goes with the rest in the end
            os.unlink(self._saving / attempt)

    def publish(self) -> None:
        """All parts are there: give them their name. Raises `OfferdError` if that cannot be, and leaves them where they are."""
        try:
            (self._parts / SUCCESS).touch()
            with suppress(FileNotFoundError):
                _take_over(self.path, self._parts)
                os.utime(self._parts)
            os.rename(self._parts, self.path)
        except OSError as error:
            raise OfferdError(
                f"the output is complete in {self._parts}, but cannot be called {self.path}: {error.strerror}"
            ) from None
        self.discard()

    def discard(self) -> None:
        """Remove what is not published, and directories above it that were made for it and are empty."""
        shutil.rmtree(self._base, ignore_errors=True)
        with suppress(OSError):
            for parent in self._made:
                parent.rmdir()


def _take_over(path: Path, directory: Path) -> None:
    """Owner, permissions and attributes of an empty directory that the other one takes the place of: somebody meant them."""
    status = os.lstat(path)
    with suppress(PermissionError):  # an account that is not root keeps what it makes
        os.chown(directory, status.st_uid, status.st_gid)
    shutil.copystat(path, directory)


def part_name(part: int) -> str:
    return f"part-{part:05d}"
