"""Keeps the recording of one daemon (`offerd.daemons.recording`), and writes it: on request, at SIGUSR2, after a failure.

A recording is a state and the steps since then; the latest steps are kept in memory (the *ring*). The slow part happens in a
fork, which has the state of this moment and as much time as it needs; the daemon's loop waits for little more than the fork
itself. So a new state can be taken from time to time while the ring moves on. If steps come so fast that the ring has dropped
some since the last state, the recording has steps only: it can be read, but not replayed.
"""

from __future__ import annotations

import errno
import gc
import logging
import math
import os
import shutil
import signal
import stat
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from typing import IO, NamedTuple

from offerd import __version__
from offerd.daemons.object_graph import NotPlain
from offerd.daemons.recording import Core, Header, Ring, pack, pack_state
from offerd.errors import OfferdError
from offerd.values.failures import describe
from offerd.values.screen_text import printable

log = logging.getLogger("offerd.recorder")

MAX_STEPS = 1_000
MAX_BYTES = 32 << 10
"""Size of the ring, counted as received; in memory, events take several times as much. With 256 KiB, which are
cold when they are freed, master and slaves used 8 % more of a processor under load."""
MORE_STEPS, MORE_BYTES = 100, 800
"""The ring is so many times larger while somebody has asked for a recording."""
MAX_REQUESTS = 4
"""Recordings requested at one time."""
STATE_AGAIN_S = 10.0
"""Shortest time between two states ..."""
STATE_COST = 100
"""... and at least so many times as long as taking the last one took."""
SMALL_STATE = 1000
"""A state of up to so many nodes is packed at once: a few milliseconds, no more than a fork takes."""
FAILURES_AGAIN_S = 600.0
"""Shortest time between two recordings of failures: one that recurs must not fill the disk."""
KEPT_FILES = 8
"""Older files are removed when a new one is written."""
LOOK_AGAIN_S = 0.05
"""How often to check whether a fork has ended."""
DRAFT_IS_OLD_S = 3600.0
"""A draft that nothing was written to for so long is of a process that was killed: it is removed."""
MAX_FAULT = 500
"""Longest reason, in bytes, that is read of a fork."""
SUFFIX = ".recording"


class Written(NamedTuple):
    """A recording was written to `path`; if not, `fault` says why. `is_whole`: it has a state and can be replayed."""

    path: Path
    is_whole: bool
    fault: str


class _State(NamedTuple):
    """The state before step `number`, packed into `file`, which is unlinked."""

    number: int
    file: IO[bytes]


class _Request(NamedTuple):
    """Somebody waits until `until` for the steps from number `first` on. `ticket` identifies it; 0: nothing does."""

    until: float
    first: int
    why: str
    done: Callable[[Written], None]
    ticket: int


class Recorder:
    """Call `begin` once there is a core, `note` before each of its steps, and `turn` once in each turn of the loop and at
    `next_deadline`. `core` returns the current core.
    """

    def __init__(
        self,
        who: str,
        core: Callable[[], Core],
        directory: Path,
        *,
        max_steps: int = MAX_STEPS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`directory` is made with the first recording; only the daemon's user may read it."""
        self.directory = directory
        self._who = who
        self._core = core
        self._max = (max_steps, max_bytes)
        self._ring = Ring(max_steps, max_bytes)
        self.note = self._ring.note
        self.grew, self.grew_to = self._ring.grew, self._ring.grew_to
        self._states: deque[_State] = deque()
        self._state_at = math.inf
        self._works: dict[int, tuple[Callable[[str], None], int]] = {}
        """What to call when the fork of this pid has ended, and the descriptor of the file that holds its reason to fail."""
        self._serials = count(1)
        self._is_taking = False
        self._waiting: list[Callable[[], None]] = []
        """What to call when the state that is being taken is complete."""
        self._requests: list[_Request] = []
        self._failed_at = -math.inf

    def begin(self, now: float) -> None:
        """There is a core, and its state is complete: no event was missed."""
        self._take_state(now)

    def turn(self, now: float) -> None:
        """Look after forks, take a new state if it is time, and write the recordings that are due."""
        self._ring.trim()
        if self._works:
            self._reap()
        if now >= self._state_at and self._ring.next - self._newest() >= self._ring.max_steps // 2:
            self._take_state(now)
        for request in [each for each in self._requests if now >= each.until]:
            self._requests.remove(request)
            self.write(request.why, now, request.done, first=request.first)
        if not self._requests and not self._waiting:
            self._ring.max_steps, self._ring.max_bytes = self._max

    def next_deadline(self) -> float:
        """When `turn` must be called even if nothing happens."""
        if self._works:
            return time.monotonic() + LOOK_AGAIN_S
        return min((request.until for request in self._requests), default=math.inf)

    def record(
        self, for_s: float, why: str, now: float, done: Callable[[Written], None], *, ticket: int = 0
    ) -> None:
        """Record the next `for_s` seconds. `done` is called when the recording is written, or cannot be."""
        if len(self._requests) >= MAX_REQUESTS:
            wait_s = math.ceil(min(request.until for request in self._requests) - now)
            fault = f"{MAX_REQUESTS} others are recording at this moment; ask again in {wait_s} s, when the first ends"
            done(Written(self.directory, is_whole=False, fault=fault))
            return
        log.info("recording for %g s (%s)", for_s, printable(why))
        self._requests.append(_Request(now + for_s, self._ring.next, why, done, ticket))
        steps, size_bytes = self._max
        self._ring.max_steps, self._ring.max_bytes = MORE_STEPS * steps, MORE_BYTES * size_bytes
        if not self._is_taking:
            self._take_state(now)

    def abandon(self, ticket: int) -> bool:
        """Whoever asked under this ticket has gone: end that recording, unwritten. False if there is none."""
        for request in self._requests:
            if request.ticket == ticket != 0:
                self._requests.remove(request)
                log.info("a recording has ended early: whoever asked for it has gone")
                return True
        return False

    def write(
        self, why: str, now: float, done: Callable[[Written], None] = lambda _: None, *, first: int = 0
    ) -> None:
        """Write all steps that are kept, from number `first` on, to a file. `done` is called when that succeeded or failed."""

        def begin() -> None:
            # The pid, as masters of one account share a directory.
            name = f"{self._who}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{next(self._serials):03d}{SUFFIX}"
            state = self._state_for(first)
            path, is_whole = self.directory / name, state is not None

            def ended(fault: str) -> None:
                if fault:
                    with suppress(OSError):
                        _draft_of(path).unlink()
                    log.error("no recording at %s: %s", path, fault)
                else:
                    log.info("wrote a recording to %s (%s)", path, printable(why))
                done(Written(path, is_whole, fault))

            kept = {state.file.fileno()} if state is not None else set[int]()
            self._fork(lambda: self._write(path, why, state, first, now), ended, kept)

        if self._is_taking:
            self._waiting.append(begin)
        else:
            begin()

    def failed(self, error: BaseException, now: float) -> None:
        """After an unexpected error, write the steps that led to it, unless a failure was recorded recently."""
        if now >= self._failed_at + FAILURES_AGAIN_S:
            self._failed_at = now
            self.write(f"a failure: {type(error).__name__}: {error}", now)

    def crashed(self, error: BaseException, now: float) -> None:
        """The same when the error ends the daemon: on return the recording is written, or the log says why not."""
        self._failed_at = -math.inf
        self.failed(error, now)
        self.close()

    def close(self) -> None:
        """Finish what is being written. Other requests fail."""
        while self._works:
            pid = next(iter(self._works))
            self._ended(pid, os.waitpid(pid, 0)[1])
        while self._requests:
            self._requests.pop().done(Written(self.directory, is_whole=False, fault="the daemon has ended"))
        while self._states:
            self._states.popleft().file.close()

    # -- states ---------------------------------------------------------------------------------------------------------

    def _newest(self) -> int:
        return self._states[-1].number if self._states else 0

    def _take_state(self, now: float) -> None:
        file = os.fdopen(os.memfd_create("offerd-state", os.MFD_CLOEXEC), "w+b")
        state = _State(self._ring.next, file)
        pieces = pack_state(self._core())

        def done(fault: str) -> None:
            self._state_at = now + max(STATE_AGAIN_S, STATE_COST * (time.monotonic() - now))
            self._is_taking = False
            if fault:
                log.warning("the state cannot be recorded: %s", fault)
                file.close()
            else:
                self._keep(state)
            waiting, self._waiting = self._waiting, []
            for begin in waiting:
                begin()

        def pack_all() -> None:
            file.writelines(pieces)
            file.flush()

        self._is_taking = True
        self._state_at = math.inf
        try:
            file.writelines(islice(pieces, SMALL_STATE))
            rest = next(pieces, None)
        except NotPlain as error:
            done(str(error))
            return
        if rest is not None:
            file.write(rest)
        file.flush()  # or the fork would write the buffer a second time
        if rest is None:
            done("")
        else:
            self._fork(pack_all, done, {file.fileno()})

    def _keep(self, state: _State) -> None:
        """Keep a new state. Older ones stay as long as the ring has all steps since them."""
        self._states.append(state)
        while len(self._states) > 2 or (len(self._states) > 1 and self._states[0].number < self._ring.first):
            self._states.popleft().file.close()

    def _state_for(self, first: int) -> _State | None:
        """The newest state that is not after step `first`, else the oldest; only states since which the ring has all steps."""
        usable = [state for state in self._states if state.number >= self._ring.first]
        before = [state for state in usable if state.number <= first]
        return before[-1] if before else usable[0] if usable else None

    # -- forks ----------------------------------------------------------------------------------------------------------

    def _fork(self, work: Callable[[], None], done: Callable[[str], None], kept: set[int]) -> None:
        """Run `work` in a fork of this process, which keeps only the descriptors `kept` open; call `done(fault)` when it has
        ended.
        """
        try:
            report = os.memfd_create("offerd-fault", os.MFD_CLOEXEC)
        except OSError as error:
            done(error.strerror or str(error))
            return
        try:
            with warnings.catch_warnings():
                # Forking with threads is safe here: the fork uses nothing that another thread may have locked.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError as error:  # no memory, or too many processes
            os.close(report)
            done(error.strerror or str(error))
            return
        if pid:
            self._works[pid] = done, report
            return
        status = 1
        try:
            # Signals to the fork must not reach the daemon, with which it shares the wake-up descriptor.
            signal.set_wakeup_fd(-1)
            # The daemon may be killed and restarted before the fork ends: its locks and sockets must be free by then.
            first = 3
            for fd in (*sorted({*kept, report}), os.sysconf("SC_OPEN_MAX")):
                os.closerange(first, fd)
                first = fd + 1
            gc.disable()  # a collection would write to most of our memory, and so copy it
            work()
            status = 0
        except Exception as error:  # marked: none of the daemon's code may go on here
            fault = str(error) if isinstance(error, OfferdError) else describe("writing it", error)
            with suppress(OSError):
                os.pwrite(report, fault.encode(errors="replace"), 0)
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid in [*self._works]:
            ended, wait_status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended(pid, wait_status)

    def _ended(self, pid: int, wait_status: int) -> None:
        code = os.waitstatus_to_exitcode(wait_status)
        done, report = self._works.pop(pid)
        said = printable(os.pread(report, MAX_FAULT, 0).decode(errors="replace"), MAX_FAULT)
        os.close(report)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        done("" if code == 0 else said or f"the process that was to write it {how}")

    def _write(self, path: Path, why: str, state: _State | None, first: int, now: float) -> None:
        """In a fork: write the file under its name only once it is complete. Raises `OfferdError`."""
        try:
            _make_private(self.directory)
            self._write_draft(path, why, state, first, now)
            _draft_of(path).rename(path)
            self._tidy()
        except OSError as error:
            advice = "; free some" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise OfferdError(f"cannot write {self.directory}: {error.strerror or error}{advice}") from None

    def _write_draft(self, path: Path, why: str, state: _State | None, first: int, now: float) -> None:
        first = max(first, self._ring.first) if state is None else state.number
        header = Header(self._who, __version__, why, time.time(), now, first, state is not None)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(_draft_of(path), flags, 0o600), "wb") as file:
            pieces = pack(header, (), self._ring.since(first))
            file.write(next(pieces))
            if state is not None:
                state.file.seek(0)
                shutil.copyfileobj(state.file, file)
            file.writelines(pieces)

    def _tidy(self) -> None:
        """Remove the oldest recordings, and drafts that nobody writes any more."""
        for old in sorted(self.directory.glob(f"{self._who}-*{SUFFIX}"))[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
        for draft in self.directory.glob(_draft_of(Path(f"{self._who}-*{SUFFIX}")).name):
            with suppress(FileNotFoundError):
                if draft.lstat().st_mtime < time.time() - DRAFT_IS_OLD_S:
                    draft.unlink()


def _draft_of(path: Path) -> Path:
    """What a recording is called until it is complete."""
    return path.with_name(f".{path.name}.new")


def _make_private(directory: Path) -> None:
    """Make the directory, or see that it is ours and no other account may use it. Raises `OSError` and `OfferdError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise OfferdError(
                f"{directory} belongs to another account (uid {found.st_uid}), which could read what is recorded; remove it"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
