"""Enrolled keys and tokens of a master without ZooKeeper: a file in its state directory, which the next master reads.

The file is named after the master's key, so that masters of several clusters on one host do not mix theirs. Nothing in it is
secret (a word's secret is nowhere), but whoever can write it can let himself in.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from offerd.credentials.trusted_files import read_trusted, replace_file
from offerd.errors import BadInput
from offerd_master.core.events import ChangeKept, EnrolmentRead
from offerd_master.core.registry import Change, Contents
from offerd_master.key_records import Records, identity

FORMAT = 1


def default_state_dir() -> Path:
    """Where a master keeps what it must not forget: systemd's place for its unit, the system's for root, or the user's own."""
    if given := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/offerd/master")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "offerd" / "master"


class KeyFile:
    """What is enrolled at the master of this public key. `contents` is what the file holds."""

    is_read = True

    def __init__(
        self,
        directory: Path,
        public_key: str,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises `BadInput` with one line if there is a file that cannot be read."""
        self.path = directory / f"keys-{identity(public_key)}.json"
        self._records = Records(now, wall)
        self._news: deque[ChangeKept | EnrolmentRead] = deque()
        self.complaints: list[str] = []
        self.contents = self._read()

    def read_before_leading(self) -> bool:
        """Nobody else writes it: what was read at the start is still so."""
        return True

    def keep(self, change: Change, epoch: int) -> None:
        """Write it down, whole, and to the disk; `news` tells when that is done, or why it was not."""
        after = self.contents.after(change)
        try:
            self._write(after)
        except OSError as error:
            self._news.append(ChangeKept(f"{self.path}: {error.strerror or error}"))
            return
        self.contents = after
        self._news.append(ChangeKept())

    def news(self) -> Iterator[ChangeKept | EnrolmentRead]:
        while self._news:
            yield self._news.popleft()

    def close(self) -> None:
        """There is nothing to let go of."""

    def _read(self) -> Contents:
        try:
            text = read_trusted(self.path, "the file of enrolled keys")
        except FileNotFoundError:
            return Contents()
        except OSError as error:
            raise BadInput(f"cannot read the enrolled keys {self.path}: {error.strerror}") from None
        try:
            document = json.loads(text)
            keys, tokens, form = document["keys"], document["tokens"], document["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            keys = tokens = form = None
        if form != FORMAT or not isinstance(keys, dict) or not isinstance(tokens, dict):
            raise BadInput(
                f"{self.path} holds no enrolled keys that can be read: put back a copy, or move it away; "
                "who was enrolled then joins again"
            )
        contents, self.complaints = self._records.contents(keys, tokens)
        return contents

    def _write(self, contents: Contents) -> None:
        records = self._records
        document = {
            "format": FORMAT,
            "keys": {name: records.of_key(enrolled) for name, enrolled in contents.keys.items()},
            "tokens": {token_id: records.of_token(token) for token_id, token in contents.tokens.items()},
        }
        directory = self.path.parent
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self.path, json.dumps(document, indent=1), 0o600)
        # The name, too, is to be on the disk before anybody is told.
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
