"""The secrets from which the file server's tokens are made: one in use, older ones valid for a while. They survive a restart.

A new secret is made every `ROTATE_S`, and whenever the master has owners refused: their tokens of all secrets until then are
refused, other tokens stay valid. Times are seconds since the host's boot. After a boot all old tokens are invalid, and only
the number of the generation continues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from offerd.files_access import SECRET_BYTES, Claim, FilesSecret, is_true
from offerd_slave.checkpoint import DamagedCheckpoint, quarantine, read_checkpoint, write_checkpoint
from offerd_slave.records import FilesCheckpoint, Generation, Refusal

ROTATE_S = 12 * 3600.0
MAX_GENERATIONS = 64
"""The most generations at once. There are more than two only if owners are refused often within hours."""
MAX_REFUSALS = 10_000
FILE = "files.ckpt"


def boot_clock() -> float:
    """Seconds since the boot, including the time in which the host was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FilesSecrets:
    """Changed by the slave's loop and read by the file server's threads: what these read is replaced, never changed."""

    def __init__(self, path: Path, boot_id: str, now: float, fingerprint: str = "") -> None:
        """Read the secrets in the work directory `path`, or make the first one; `complaint` says what went wrong."""
        self._file = path / FILE
        self._boot_id = boot_id
        self._fingerprint = fingerprint
        self._generations: tuple[Generation, ...] = ()
        self._refusals: dict[str, Refusal] = {}
        self.complaint = ""
        last = 0
        try:
            found = read_checkpoint(self._file, FilesCheckpoint)
        except FileNotFoundError:
            pass
        except DamagedCheckpoint as damage:
            self.complaint = f"the secrets of files are lost, and all tokens for files are invalid: {damage}"
            quarantine(self._file, path / "quarantine")
        else:
            last = max(generation.number for generation in found.generations)
            self._refusals = found.refusals
            if found.boot_id == boot_id:
                self._generations = tuple(found.generations)
        if not self._generations:
            try:
                self._begin(last + 1, now, self._refusals)
            except OSError as error:
                self.complaint = (
                    f"{self._file} cannot be written, a restart will need a new one: {error.strerror}"
                )

    @property
    def current(self) -> FilesSecret:
        """The secret in use, to send to the master."""
        newest = self._generations[-1]
        return FilesSecret(newest.secret, newest.number, self._fingerprint)

    @property
    def rotate_at(self) -> float:
        return self._generations[-1].born_s + ROTATE_S

    def rotate(self, now: float) -> None:
        """Make a new secret. Raises `OSError`; then the old one stays in use."""
        self._begin(self._generations[-1].number + 1, now, self._refusals)

    def refuse(self, numbers: Mapping[str, int], now: float) -> bool:
        """Refuse the present tokens of these owners and operators. Returns whether that changes anything. Raises `OSError`."""
        last = self._generations[-1].number
        known = self._refusals
        news = {
            name: Refusal(number, last)
            for name, number in numbers.items()
            if name not in known or number > known[name].number
        }
        if not news:
            return False
        kept = {name: refusal for name, refusal in known.items() if name not in news} | news
        for name in list(kept)[: max(0, len(kept) - MAX_REFUSALS)]:
            del kept[name]
        self._refusals = kept  # even if the file cannot be written
        self._begin(last + 1, now, kept)
        return True

    def is_good(self, claim: Claim, scope: str) -> bool:
        """Whether this token was made with a valid secret, and its owner is not refused."""
        refusal = self._refusals.get(claim.name)
        if refusal is not None and claim.generation <= refusal.generation:
            return False
        return any(
            is_true(claim, generation.secret, scope)
            for generation in self._generations
            if generation.number == claim.generation
        )

    def _begin(self, number: int, now: float, refusals: dict[str, Refusal]) -> None:
        new = Generation(number, os.urandom(SECRET_BYTES), now)
        successors = [*self._generations[1:], new]
        kept = [
            generation
            for generation, successor in zip(self._generations, successors, strict=False)
            if now < successor.born_s + ROTATE_S  # computed exactly as in `rotate_at`
        ]
        generations = (*kept, new)[-MAX_GENERATIONS:]
        if not self._generations:
            self._generations = generations  # there has to be one
        write_checkpoint(self._file, FilesCheckpoint(self._boot_id, list(generations), refusals))
        self._generations = generations
