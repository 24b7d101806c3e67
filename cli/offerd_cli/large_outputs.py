"""The outputs of `offerd map` that are too large to come with a status: fetched from the slaves' file servers by a few threads.

Imported when the first one is: most commands print little, and HTTP takes its time to import.
"""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, NamedTuple

from offerd.messages import TaskStatus
from offerd_cli.batch import Place
from offerd_cli.sandbox_files import LogReader, SandboxFiles, Unreachable

FETCHERS = 4
SPOOL_BYTES = 1 << 20


class Fetched(NamedTuple):
    """What the command of this number wrote; nothing, and why, where it is lost."""

    number: int
    stdout: IO[bytes] | None = None
    stderr: IO[bytes] | None = None
    lost: str = ""


class LargeOutputs:
    """Fetches some at a time. `fetch` and `take` are for one thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="offerd-fetch")
        self._own = threading.local()
        self._fetched: SimpleQueue[tuple[int, Future[tuple[IO[bytes], IO[bytes]]]]] = SimpleQueue()
        self.outstanding = 0
        """Asked for and not taken yet."""

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns at once."""
        return not self._fetched.empty()

    def fetch(self, number: int, status: TaskStatus, place: Place) -> None:
        """Begin to."""
        self.outstanding += 1
        future = self._pool.submit(self._fetch, status, place)
        future.add_done_callback(lambda done: self._fetched.put((number, done)))

    def take(self) -> Fetched:
        """The next that is there; waits for it."""
        number, future = self._fetched.get()
        self.outstanding -= 1
        try:
            return Fetched(number, *future.result())
        except Unreachable as error:
            return Fetched(number, lost=str(error))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _fetch(self, status: TaskStatus, place: Place) -> tuple[IO[bytes], IO[bytes]]:
        """In a thread of the pool, with a connection of its own."""
        files = getattr(self._own, "files", None)
        if files is None:
            files = self._own.files = SandboxFiles()
        parts: list[IO[bytes]] = []
        for name in ("stdout", "stderr"):
            part: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 (closed when printed)
            log = LogReader(files, place.files, status.container_id, f"tasks/{status.task_id}/{name}")
            while content := log.read():
                part.write(content)
            part.seek(0)
            parts.append(part)
        return parts[0], parts[1]
