"""Enrolled keys and tokens of a master without ZooKeeper: a file in its state directory, which the next master reads.

The file is named after the master's key, so that masters of several clusters can run on one host. It holds no secret (the
secret part of a token is stored nowhere), but anybody who can write it can enrol a key.
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
    """Where a master keeps its state: the directory that systemd gives its unit, the system's for root, or the user's own."""
    if given := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/offerd/master")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "offerd" / "master"


class KeyFile:
    """The keys enrolled at the master with this public key. `contents` is what the file holds."""

    is_read = True

    def __init__(
        self,
        directory: Path,
        public_key: str,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises `BadInput` with one line if the file exists and cannot be read."""
        self.path = directory / f"keys-{identity(public_key)}.json"
        self._records = Records(now, wall)
        self._news: deque[ChangeKept | EnrolmentRead] = deque()
        self.complaints: list[str] = []
        self.contents = self._read()

    def read_before_leading(self) -> bool:
        """Always True: no other process writes the file, so it still holds what was read at the start."""
        return True

    def keep(self, change: Change, epoch: int) -> None:
        """Write the change to the disk; `news` reports success or the error."""
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
        """Nothing is held open."""

    def _read(self) -> Contents:
        try:
            text = read_trusted(self.path, "the file of keys that have joined")
        except FileNotFoundError:
            return Contents()
        except OSError as error:
            raise BadInput(f"cannot read the keys that have joined, {self.path}: {error.strerror}") from None
        try:
            document = json.loads(text)
            keys, tokens, form = document["keys"], document["tokens"], document["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            keys = tokens = form = None
        if form != FORMAT or not isinstance(keys, dict) or not isinstance(tokens, dict):
            raise BadInput(
                f"{self.path} cannot be read as keys that have joined: put back a copy, or move it away; "
                "then everybody who had joined must join again"
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
        # The file's name must be on the disk, too, before anybody is answered.
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
