"""A job's output directory: it appears under its name when it is complete, or not at all."""

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
"""Longest name of ours beside the output: it must be shorter than the longest that is allowed, as more is appended."""


class OutputDirectory:
    """Parts are collected beside the final directory, and become it by one rename.

    Files that are being saved are kept apart from the parts, one for each attempt, so a late attempt spoils nothing.
    """

    def __init__(self, output: str) -> None:
        """Make the place for the parts. Raises `BadInput` if that is not possible, or they could not be renamed at the end."""
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
                os.lstat(self._base / self.path.name)  # fails if the name is not possible
            if self.path.exists():
                # Several things may forbid a rename (a mount, the sticky bit, an attribute); none can be checked beforehand.
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
        """Fetch an attempt's output from a slave's file server, and check it against what the attempt reported. Raises
        `TransferError`, and `OSError` for errors of this host's disk.
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
        """Make what was saved of this attempt the part. Raises `OSError`."""
        os.rename(self._saving / attempt, self._parts / part_name(part))

    def drop(self, attempt: str) -> None:
        """Remove what was saved of this attempt."""
        with suppress(OSError):  # it is removed with the rest at the end
            os.unlink(self._saving / attempt)

    def publish(self) -> None:
        """Give the complete output its name. If that fails, raises `OfferdError` and leaves the parts where they are."""
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
        """Remove what is not published, and empty directories above it that were made for it."""
        shutil.rmtree(self._base, ignore_errors=True)
        with suppress(OSError):
            for parent in self._made:
                parent.rmdir()


def _take_over(path: Path, directory: Path) -> None:
    """Copy owner, permissions and attributes of the empty directory that is to be replaced: somebody has chosen them."""
    status = os.lstat(path)
    with suppress(PermissionError):  # only root may change the owner
        os.chown(directory, status.st_uid, status.st_gid)
    shutil.copystat(path, directory)


def part_name(part: int) -> str:
    return f"part-{part:05d}"
