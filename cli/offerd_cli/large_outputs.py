"""Outputs of `offerd map` that are too large to come with a status: a few threads fetch them from the slaves' file servers.

Imported only when the first such output comes: most commands print little, and to import HTTP takes time.
"""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import IO, NamedTuple

from offerd.messages import TaskOutput, TaskStatus
from offerd.tasks.sandbox_files import SandboxFiles, SandboxLog, Unreachable, patience_s
from offerd.workers import NoThread, Workers
from offerd_cli.batch import Place

FETCHERS = 4
SPOOL_BYTES = 1 << 20
MOST_HELD = 64
"""How many fetched outputs, in files or memory, may wait to be printed: all slaves together may be faster than the reader."""
LOOK_AGAIN_S = 0.25
"""Pause before a file server that does not answer is asked again."""


class Fetched(NamedTuple):
    """The output that could be fetched of command `number`; `lost` says what is missing, and why."""

    number: int
    status: TaskStatus
    stdout: IO[bytes] | None = None
    stderr: IO[bytes] | None = None
    lost: str = ""

    def close(self) -> None:
        """Discard it."""
        for part in (self.stdout, self.stderr):
            if part is not None:
                part.close()


class LargeOutputs:
    """Fetches several at a time. `fetch` and `take` must be called from one thread."""

    def __init__(self) -> None:
        self._pool = Workers(FETCHERS, "fetching output")
        self._own = threading.local()
        self._connections: list[SandboxFiles] = []
        self._closing = threading.Event()
        self._room = threading.Semaphore(MOST_HELD)
        self._fetched: SimpleQueue[tuple[int, TaskStatus, Future[Fetched]]] = SimpleQueue()
        self.outstanding = 0
        """How many were requested and not taken yet."""

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns at once."""
        return not self._fetched.empty()

    def fetch(self, number: int, status: TaskStatus, place: Place, written: TaskOutput | None) -> None:
        """Start to fetch. `written`: the size of the outputs, if it is known."""
        self.outstanding += 1
        future = self._pool.submit(self._fetch, number, status, place, written)
        future.add_done_callback(lambda done: self._fetched.put((number, status, done)))

    def take(self) -> Fetched:
        """The next output that is ready; waits for one."""
        number, status, future = self._fetched.get()
        self._room.release()
        self.outstanding -= 1
        try:
            return future.result()
        except NoThread as error:
            return Fetched(number, status, lost=f"its output is lost: {error}")

    def close(self) -> None:
        self._closing.set()
        self._room.release(FETCHERS)
        self._pool.shutdown(cancel_futures=True)
        for files in self._connections:
            files.close()
        while not self._fetched.empty():
            _, _, future = self._fetched.get()
            if not future.cancelled() and future.exception() is None:
                future.result().close()

    def _fetch(self, number: int, status: TaskStatus, place: Place, written: TaskOutput | None) -> Fetched:
        """Runs in a thread of the pool, with a connection of its own, once not too many outputs wait to be taken."""
        self._room.acquire()
        if self._closing.is_set():
            return Fetched(number, status)
        files = getattr(self._own, "files", None)
        if files is None:
            files = self._own.files = SandboxFiles()
            self._connections.append(files)
        parts: list[IO[bytes]] = []
        losses: list[str] = []
        for name in ("stdout", "stderr"):
            part: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 (closed when printed)
            parts.append(part)
            log = SandboxLog(files, place.files, status.container_id, f"tasks/{status.task_id}/{name}")
            why = self._copy(log, place, part)
            part.seek(0)
            if written is None:
                if why or log.has_gaps:
                    losses.append(f"a part of its {name} is lost{why}")
                continue
            expected = written.stdout_bytes if name == "stdout" else written.stderr_bytes
            if missing := log.missing_bytes(expected):
                losses.append(f"{missing} of {expected} bytes of its {name} are lost{why}")
        return Fetched(number, status, parts[0], parts[1], "; ".join(losses))

    def _copy(self, log: SandboxLog, place: Place, part: IO[bytes]) -> str:
        """Copy all there is; returns `: REASON` if it ended too early."""
        waited_s = 0.0
        while True:
            try:
                while content := log.read():
                    part.write(content)
                    waited_s = 0.0
            except Unreachable as error:
                if waited_s >= patience_s(place.files) or self._closing.wait(LOOK_AGAIN_S):
                    return f": {error}"
                waited_s += LOOK_AGAIN_S
            except OSError as error:
                return f": it cannot be stored in {tempfile.gettempdir()}: {error.strerror}"
            else:
                return ""
