"""A queue of jobs in a directory, as Torque's server keeps one: everybody who can write there submits, one process serves.

ID.job        the job, as JSON; written under another name and renamed, so that it is complete
ID.out ID.err its ranks' output, labelled
ID.end        how it ended, as JSON: a job without it waits or runs, also after a restart of the serving process
ID.cancel     somebody wants it to end
wake          a FIFO: a byte in it means that there is something new
lock          held by the serving process
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import offerd
from offerd_frameworks.mpi.core.job import Job, Outcome

LOOK_S = 0.5
"""The directory is checked this often even without a wake-up: several hosts may share its file system."""
FOLLOW_S = 0.1
FOLLOW_BYTES = 1 << 20


class Spool:
    """Such a directory, which is made if it does not exist. Raises `BadInput` if that is not possible, and `OfferdError` later
    if something cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._taken: set[str] = set()
        self._files: dict[tuple[str, bool], BinaryIO] = {}
        self._wake_fd = -1
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not (directory / "wake").exists():
                os.mkfifo(directory / "wake")
        except FileExistsError:  # another process was faster
            pass
        except OSError as error:
            raise offerd.BadInput(f"{directory} cannot be a queue: {error.strerror}") from None

    # -- for submitters ---------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Submit a job, which begins when its turn comes."""
        self._write(f"{job.job_id}.job", _job_to_json(job))
        self.wake()

    def cancel(self, job_id: str) -> None:
        self._write(f"{job_id}.cancel", {})
        self.wake()

    def is_served(self) -> bool:
        with self._path("lock").open("a") as lock:
            return not _try_lock(lock.fileno())

    def outcome(self, job_id: str) -> Outcome | None:
        """How the job ended; None while it waits or runs."""
        try:
            values = json.loads(self._path(f"{job_id}.end").read_bytes())
        except FileNotFoundError:
            return None
        return Outcome(**{**values, "hosts": tuple(values["hosts"])})

    def follow(self, job_id: str) -> Iterator[tuple[bool, bytes]]:
        """The job's output until it has ended, each with whether it is stderr: lines, or consecutive parts of a long one.
        Another attempt is followed from its beginning.
        """
        is_over = False
        with ExitStack() as stack:
            tails = {
                is_stderr: stack.enter_context(_Tail(self._output(job_id, is_stderr)))
                for is_stderr in (False, True)
            }
            while not is_over:
                is_over = (
                    self.outcome(job_id) is not None
                )  # asked before reading, so that its last output is read
                for is_stderr, tail in tails.items():
                    for data in tail.read():
                        yield is_stderr, data
                    while (
                        tail.is_in_line and self.outcome(job_id) is None
                    ):  # no other line may come in between
                        time.sleep(FOLLOW_S)
                        for data in tail.read():
                            yield is_stderr, data
                if not is_over:
                    time.sleep(FOLLOW_S)

    def wake(self) -> None:
        """Have the serving process look again; does nothing if there is none."""
        try:
            fd = os.open(self._path("wake"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (
                errno.ENXIO,
                errno.ENOENT,
            ):  # nobody has it open for reading, or it does not exist
                return
            raise
        try:
            os.write(fd, b"!")
        except BlockingIOError:  # it is full of wake-ups
            pass
        finally:
            os.close(fd)

    # -- for the serving process ------------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve the queue within this block. Raises `BadInput` if another process does."""
        with self._path("lock").open("a") as lock:
            if not _try_lock(lock.fileno()):
                raise offerd.BadInput(
                    f"{self.directory} is being served already; submit jobs to it, or end the process that serves it"
                )
            # Also open for writing: without a writer the reading end would always be ready.
            self._wake_fd = os.open(self._path("wake"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                yield
            finally:
                os.close(self._wake_fd)
                self._wake_fd = -1

    def wait(self) -> None:
        """Wait until there may be something new."""
        if select.select([self._wake_fd], [], [], LOOK_S)[0]:
            os.read(self._wake_fd, 4096)

    def take(self) -> list[Job]:
        """Jobs not taken yet, oldest first. One that cannot be read is ended, with what is wrong with it."""
        jobs = []
        for path in sorted(
            self.directory.glob("*.job"), key=lambda path: (path.stat().st_mtime_ns, path.name)
        ):
            if path.stem in self._taken or self._path(f"{path.stem}.end").exists():
                continue
            self._taken.add(path.stem)
            try:
                jobs.append(_job_from_json(path.stem, json.loads(path.read_bytes())))
            except (ValueError, TypeError, KeyError, offerd.OfferdError) as error:
                self.end(path.stem, Outcome(2, f"{path.name} cannot be read: {error}"))
        return jobs

    def cancelled(self) -> list[str]:
        """Jobs that somebody has cancelled, once each."""
        found = []
        for path in self.directory.glob("*.cancel"):
            path.unlink()
            found.append(path.stem)
        return found

    def is_empty(self) -> bool:
        """Whether every job has ended."""
        return all(self._path(f"{path.stem}.end").exists() for path in self.directory.glob("*.job"))

    def begin(self, job_id: str) -> None:
        """A job, or another attempt at it, starts: remove the output of an earlier attempt."""
        for is_stderr in (False, True):
            path = self._output(job_id, is_stderr)
            with _writing(path):
                # A new file instead of the same one truncated: its readers notice that the output begins anew.
                unfinished = self._path(f".{path.name}")
                file = unfinished.open("wb", buffering=0)
                unfinished.rename(path)
            if before := self._files.pop((job_id, is_stderr), None):
                before.close()
            self._files[job_id, is_stderr] = file

    def write(self, job_id: str, data: bytes, *, is_stderr: bool) -> None:
        rest = memoryview(data)
        with _writing(self._output(job_id, is_stderr)):
            while rest:  # a full disk may take only a part
                rest = rest[self._files[job_id, is_stderr].write(rest) :]

    def end(self, job_id: str, outcome: Outcome) -> None:
        for is_stderr in (False, True):
            if file := self._files.pop((job_id, is_stderr), None):
                file.close()
        self._write(f"{job_id}.end", {**outcome.__dict__, "hosts": list(outcome.hosts)})
        self.wake()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _output(self, job_id: str, is_stderr: bool) -> Path:
        return self._path(f"{job_id}.{'err' if is_stderr else 'out'}")

    def _write(self, name: str, values: dict[str, Any]) -> None:
        unfinished = self._path(f".{name}")
        with _writing(self._path(name)):
            unfinished.write_text(json.dumps(values, indent=1) + "\n")
            unfinished.rename(self._path(name))


class _Tail:
    """Reads what is new in a file that grows, is truncated, or is replaced by another one."""

    def __init__(self, path: Path) -> None:
        self.is_in_line = False
        """The last piece was a part of a line."""
        self._path = path
        self._file: BinaryIO | None = None
        self._offset = 0

    def __enter__(self) -> _Tail:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> Iterator[bytes]:
        """All that is new, a bounded part at a time."""
        try:
            # Opened each time: on a file system that hosts share, this is needed to see what another host has written.
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        now, before = os.fstat(file.fileno()), self._file
        # The old file is still open here, so the new one cannot have the same inode.
        if (
            before is None
            or not os.path.samestat(now, os.fstat(before.fileno()))
            or now.st_size < self._offset
        ):
            self._offset = 0
            if self.is_in_line:  # of an earlier attempt
                self.is_in_line = False
                yield b"\n"
        if before is not None:
            before.close()
        self._file = file
        file.seek(self._offset)
        while data := file.read(FOLLOW_BYTES):
            self._offset += len(data)
            self.is_in_line = not data.endswith(b"\n")
            yield data


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into one line for whoever submits or serves."""
    try:
        yield
    except OSError as error:
        raise offerd.OfferdError(f"{path} cannot be written: {error.strerror}") from None


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _job_to_json(job: Job) -> dict[str, Any]:
    return {
        "argv": list(job.argv),
        "ranks": job.ranks,
        "need": str(job.need),
        "per_slave": job.per_slave,
        "time_limit_s": job.time_limit_s,
        "resubmits": job.resubmits,
        "directory": job.directory,
        "environment": dict(job.environment),
        "umask": job.umask,
    }


def _job_from_json(job_id: str, values: dict[str, Any]) -> Job:
    return Job(
        job_id,
        tuple(str(word) for word in values["argv"]),
        int(values["ranks"]),
        offerd.Resources.parse(values["need"]),
        values.get("per_slave"),
        values.get("time_limit_s"),
        int(values.get("resubmits", 0)),
        str(values.get("directory", "")),
        {str(name): str(value) for name, value in values.get("environment", {}).items()},
        _umask(values.get("umask")),
    )


def _umask(value: object) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= 0o777):
        raise ValueError(f"{value!r} is not a umask")
    return value
