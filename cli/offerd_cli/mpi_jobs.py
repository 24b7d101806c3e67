"""How `offerd mpi` works: one job with its output on this terminal, or a queue of jobs in a directory."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from offerd.errors import BadInput, OfferdError
from offerd.operator_messages import Waiting
from offerd.resources import Resources
from offerd.wire.posix_text import bytes_of
from offerd_cli.exit_statuses import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, EXIT_TERMINATED
from offerd_cli.screen import Screen, logged_to
from offerd_cli.units import format_duration, own_umask
from offerd_cli.waits import sentence
from offerd_cli.working import (
    KILL_WAIT_S,
    Terminated,
    away_text,
    check_words,
    signals_interrupt,
    task_prefix,
)
from offerd_frameworks.mpi.core.job import Job, Outcome
from offerd_frameworks.mpi.framework import MpiFramework, Watcher
from offerd_frameworks.mpi.hydra import find_hydra
from offerd_frameworks.mpi.output import Piece
from offerd_frameworks.mpi.spool import Spool

WHO = "offerd mpi"
TURN_S = 0.1
WRITE_BYTES = 256 << 10
MAX_STDIN_BYTES = 64 << 10
"""mpiexec.hydra fails with status 255 if there are more."""
STDIN_WAIT_S = 2.0
STDIN_TOO_LARGE = (
    f"standard input has more than the {MAX_STDIN_BYTES} bytes that MPICH passes on to rank 0; "
    "let the program read a file instead"
)


class Service(NamedTuple):
    """The master to register with, and how."""

    master: str
    role: str
    user: str
    name: str
    hold_s: float
    attributes: Mapping[str, str]

    def framework(self, watcher: Watcher, name: str, stdin: int | None = None) -> MpiFramework:
        return MpiFramework(
            watcher,
            self.master,
            name=self.name or name,
            role=self.role,
            user=self.user,
            hold_s=self.hold_s,
            attributes=self.attributes,
            stdin=stdin,
        )


def make_job(
    *,
    name: str,
    words: tuple[str, ...],
    ranks: int,
    need: Resources,
    per_slave: int | None,
    time_limit_s: float | None,
    resubmits: int,
    environment: Mapping[str, str],
    directory: str,
) -> Job:
    """Make a job. Raises `BadInput` if the command or directory cannot be used."""
    check_words(list(words), dict(environment))
    if not os.path.isdir(bytes_of(directory)):
        raise BadInput(f"{directory} is not a directory; the ranks need one to run in")
    job_id = task_prefix(name or words[0].rpartition("/")[2])
    return Job(
        job_id, words, ranks, need, per_slave, time_limit_s, resubmits, directory, environment, own_umask()
    )


def run(service: Service, job: Job, *, labels: bool) -> int:
    """Run one job to its end; returns the exit status."""
    # Keys typed at a terminal are not passed on: only one of its processes may read them, and the shell decides which.
    stdin = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.fileno()
    if job.resubmits and stdin is not None and _is_read_once(stdin):
        raise BadInput("--resubmit cannot read a pipe a second time; use a file, or < /dev/null")
    find_hydra()
    watcher = _Terminal(Screen(WHO, progress=False), labels)
    if stdin is not None:
        stdin = read_ahead(stdin, watcher.screen.note)
    framework = service.framework(watcher, os.path.basename(job.argv[0]), stdin)
    framework.submit(job)
    with signals_interrupt(), logged_to(watcher.screen):
        try:
            framework.start()
            outcome = watcher.wait(None)
        except KeyboardInterrupt as interrupt:
            return _interrupted(framework, watcher, job, interrupt)
        finally:
            framework.close()
    if watcher.is_pipe_broken:
        return EXIT_BROKEN_PIPE
    if outcome is None:
        raise OfferdError("the connection to the master has ended")
    if outcome.reason:
        watcher.screen.note(outcome.reason)
    return outcome.exit_status


def read_ahead(fd: int, note: Callable[[str], None]) -> int:
    """A descriptor of the same input that holds no more than the process manager passes on, since with more it ends in the
    middle of a job. Input that is not a file is read to its end first. Raises `BadInput`.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        if os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR) > MAX_STDIN_BYTES:
            raise BadInput(STDIN_TOO_LARGE)
        return fd
    if not _is_read_once(fd):
        return fd
    spooled, size = os.memfd_create("offerd-mpi-stdin", os.MFD_CLOEXEC), 0
    if not select.select([fd], [], [], STDIN_WAIT_S)[0]:
        note("waiting for the end of standard input; use < /dev/null if there is none")
    while data := os.read(fd, MAX_STDIN_BYTES + 1 - size):
        size += os.write(spooled, data)
        if size > MAX_STDIN_BYTES:
            os.close(spooled)
            raise BadInput(STDIN_TOO_LARGE)
    os.lseek(spooled, 0, os.SEEK_SET)
    return spooled


def _is_read_once(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _interrupted(framework: MpiFramework, watcher: _Terminal, job: Job, interrupt: KeyboardInterrupt) -> int:
    """End the job and wait for that; after a second Ctrl-C do not wait: the master ends it then."""
    status = EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
    watcher.screen.leave_line()
    if not framework.is_registered:
        watcher.screen.note(away_text(f"{job.ranks} rank{'s' * (job.ranks != 1)}"))
        return status
    framework.cancel(job.job_id, status)
    try:
        watcher.wait(KILL_WAIT_S)
    except KeyboardInterrupt:
        watcher.screen.note("not waiting for the ranks' ends")
    return status


class _Terminal:
    """Prints the output and the progress of one job."""

    def __init__(self, screen: Screen, labels: bool) -> None:
        self.screen = screen
        self.is_pipe_broken = False
        self._labels = labels
        self._ended: SimpleQueue[Outcome | None] = SimpleQueue()

    def wait(self, timeout_s: float | None) -> Outcome | None:
        """Wait for the end of the job; None if it did not end in time, or if its end can no longer be reported."""
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        while give_up_at is None or time.monotonic() < give_up_at:
            try:
                # Wait in short turns: a signal handler runs only between two of them.
                return self._ended.get(timeout=TURN_S)
            except Empty:
                continue
        return None

    def started(self, job_id: str, hosts: tuple[str, ...]) -> None:
        if self.screen.shows_progress:
            self.screen.note(f"{job_id} on {', '.join(hosts)}")

    def wrote(self, job_id: str, pieces: Iterable[Piece], *, is_stderr: bool) -> None:
        try:
            for data in batches(map(labelled, pieces) if self._labels else (piece.data for piece in pieces)):
                _show(self.screen, data, is_stderr=is_stderr)
        except BrokenPipeError:
            self.is_pipe_broken = True
            self._ended.put(None)

    def noted(self, job_id: str, text: str) -> None:
        self.screen.note(text)

    def waits(self, job_id: str, waiting: Waiting) -> None:
        self.screen.note(f"waiting: {sentence(waiting)}")

    def ended(self, job_id: str, outcome: Outcome) -> None:
        self._ended.put(outcome)

    def broken(self) -> None:
        self._ended.put(None)


def _show(screen: Screen, data: bytes, *, is_stderr: bool) -> None:
    """Raises `BrokenPipeError` if nobody reads the output, and `OfferdError` if there is no room for it."""
    try:
        screen.write(data, to_stderr=is_stderr)
    except OSError as error:
        # Python keeps what was not written in its buffer. It would try again at our end, and that failure would set our exit
        # status.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stderr if is_stderr else sys.stdout).fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise
        raise OfferdError(f"the ranks' output cannot be written: {error.strerror}") from None


def labelled(piece: Piece) -> bytes:
    """The output with its rank before each line; an unfinished line is ended."""
    label = b"[%d] " % piece.rank if piece.rank is not None and piece.begins else b""
    return label + piece.data + (b"\n" if piece.ends and not piece.data.endswith(b"\n") else b"")


def batches(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in few writes."""
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= WRITE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


# -- Queues -----------------------------------------------------------------------------------------------------------


def put(job: Job, directory: Path, *, waits: bool, labels: bool) -> int:
    """Add a job to a queue; with `waits`, print its output and exit with its status."""
    screen = Screen(WHO, progress=False)
    spool = Spool(directory)
    spool.put(job)
    if not spool.is_served():
        screen.note(f"nothing serves {directory} yet; start `offerd mpi --queue {directory}`")
    if not waits:
        screen.write(f"{job.job_id}\n".encode())
        return 0
    with signals_interrupt():
        try:
            for is_stderr, data in spool.follow(job.job_id):
                _show(screen, data, is_stderr=is_stderr)
        except KeyboardInterrupt as interrupt:
            spool.cancel(job.job_id)
            return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
        except BrokenPipeError:
            return EXIT_BROKEN_PIPE
    outcome = spool.outcome(job.job_id)
    assert outcome is not None
    if outcome.reason:
        screen.note(outcome.reason)
    return outcome.exit_status


def serve(service: Service, directory: Path, *, drains: bool) -> int:
    """Run the jobs of a queue, until Ctrl-C, or until the queue is empty if `drains`."""
    find_hydra()
    spool = Spool(directory)
    watcher = _Ledger(Screen(WHO, progress=False), spool)
    with spool.served(), signals_interrupt(), logged_to(watcher.screen):
        framework = service.framework(watcher, "mpi queue")
        try:
            framework.start()
            watcher.screen.note(f"serving {directory}")
            while not (drains and spool.is_empty()) and not watcher.is_broken:
                for job in spool.take():
                    framework.submit(job)
                for job_id in spool.cancelled():
                    framework.cancel(job_id, EXIT_INTERRUPTED)
                spool.wait()
        except KeyboardInterrupt as interrupt:
            # A running job ends with the framework, and runs again when the queue is next served.
            return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
        finally:
            framework.close()
            watcher.close()
    if watcher.is_broken:
        raise OfferdError("the connection to the master has ended")
    return 0


class _Ledger:
    """Prints a line for each step of a queue's jobs, and writes their output into files."""

    def __init__(self, screen: Screen, spool: Spool) -> None:
        self.screen = screen
        self.is_broken = False
        self._spool = spool

    def started(self, job_id: str, hosts: tuple[str, ...]) -> None:
        self._spool.begin(job_id)
        self.screen.note(f"{job_id} runs on {', '.join(hosts)}")

    def wrote(self, job_id: str, pieces: Iterable[Piece], *, is_stderr: bool) -> None:
        for data in batches(map(labelled, pieces)):
            self._spool.write(job_id, data, is_stderr=is_stderr)

    def noted(self, job_id: str, text: str) -> None:
        self.screen.note(f"{job_id}: {text}")

    def waits(self, job_id: str, waiting: Waiting) -> None:
        self.screen.note(f"{job_id} waits: {sentence(waiting)}")

    def ended(self, job_id: str, outcome: Outcome) -> None:
        self._spool.end(job_id, outcome)
        how = outcome.reason or "done"
        waited, ran = format_duration(outcome.waited_s), format_duration(outcome.ran_s)
        self.screen.note(f"{job_id} ended: {how} (waited {waited}, ran {ran})")

    def broken(self) -> None:
        self.is_broken = True
        self._spool.wake()

    def close(self) -> None:
        self._spool.close()
