"""Keeps the recording of one daemon (`offerd.daemons.recording`), and writes it: on request, at SIGUSR2, after a fault.

What takes long is packed in a fork, which has the state of this very moment and all the time that it takes; the daemon's loop
waits for little more than the fork. So a new state can be taken now and then as the ring goes on. Where steps come so fast that
the ring has lost those since the last state, the recording has steps alone: they can be read, not replayed.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import shutil
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from offerd import __version__
from offerd.daemons.failures import describe
from offerd.daemons.object_graph import NotPlain
from offerd.daemons.recording import Core, Header, Ring, pack, pack_state
from offerd.wire.screen_text import printable

log = logging.getLogger("offerd.recorder")

MAX_STEPS = 1_000
MAX_BYTES = 256 << 10
"""As they came; in memory events take several times as much."""
MORE_ON_REQUEST = 100
"""So many times as much is kept while somebody has asked for a recording."""
MAX_REQUESTS = 4
"""At one time."""
STATE_AGAIN_S = 10.0
"""A new state is taken no sooner after the last ..."""
STATE_COST = 100
"""... and no sooner than so many times what that one took."""
SMALL_STATE = 1000
"""Nodes of a state that is packed at once: a few milliseconds, no more than a fork."""
FAILURES_AGAIN_S = 600.0
"""After a recording of a failure was written: one that comes again and again fills no disk."""
KEPT_FILES = 8
"""Older ones go when a new one is written."""
LOOK_AGAIN_S = 0.05
"""How often one looks whether a fork has ended."""
SUFFIX = ".recording"


class Written(NamedTuple):
    """A recording is at `path`, or is not: then `fault` says why. `is_whole`: it has a state, and can be replayed."""

    path: Path
    is_whole: bool
    fault: str


class _State(NamedTuple):
    """The state before step `number`, packed into `file`, which has no name."""

    number: int
    file: IO[bytes]


class _Request(NamedTuple):
    """Somebody waits until `until` for the steps from number `first` on."""

    until: float
    first: int
    why: str
    done: Callable[[Written], None]


class Recorder:
    """Call `begin` when there is a core, `note` before each of its steps, and `turn` once in each turn of the loop and at
    `next_deadline`. `core` gives the core as it is now.
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
        """`directory` is made with the first recording; it and what is in it are the daemon's user's alone."""
        self.directory = directory
        self._who = who
        self._core = core
        self._max = (max_steps, max_bytes)
        self._ring = Ring(max_steps, max_bytes)
        self.note = self._ring.note
        self.grew, self.grew_to = self._ring.grew, self._ring.grew_to
        self._states: deque[_State] = deque()
        self._state_at = math.inf
        self._works: dict[int, Callable[[str], None]] = {}
        """What is done when the fork of that pid has ended."""
        self._is_taking = False
        self._waiting: list[Callable[[], None]] = []
        """To be written when the state is there that is being taken."""
        self._requests: list[_Request] = []
        self._failed_at = -math.inf

    def begin(self, now: float) -> None:
        """The core is made, and has seen nothing yet that is not in its state."""
        self._take_state(now)

    def turn(self, now: float) -> None:
        """See what forks have done, take a new state if it is time, and write what was asked for."""
        if self._works:
            self._reap()
        if now >= self._state_at and self._ring.next - self._newest() >= self._ring.max_steps // 2:
            self._take_state(now)
        for request in [each for each in self._requests if now >= each.until]:
            self._requests.remove(request)
            self.write(request.why, now, request.done, first=request.first)
        if not self._requests:
            self._ring.max_steps, self._ring.max_bytes = self._max

    def next_deadline(self) -> float:
        """When `turn` has something to do even if nothing happens."""
        if self._works:
            return time.monotonic() + LOOK_AGAIN_S
        return min((request.until for request in self._requests), default=math.inf)

    def record(self, for_s: float, why: str, now: float, done: Callable[[Written], None]) -> None:
        """Write what happens from now on for so many seconds. `done` hears of it when it is written, or cannot be."""
        if len(self._requests) >= MAX_REQUESTS:
            fault = "others are recording at this moment; ask again when they have ended"
            done(Written(self.directory, is_whole=False, fault=fault))
            return
        log.info("recording for %g s (%s)", for_s, printable(why))
        self._requests.append(_Request(now + for_s, self._ring.next, why, done))
        steps, size_bytes = self._max
        self._ring.max_steps, self._ring.max_bytes = MORE_ON_REQUEST * steps, MORE_ON_REQUEST * size_bytes
        if not self._is_taking:
            self._take_state(now)

    def write(
        self, why: str, now: float, done: Callable[[Written], None] = lambda _: None, *, first: int = 0
    ) -> None:
        """Have all that is here from step number `first` on written to a file; `done` hears when it is there, or is not."""

        def begin() -> None:
            name = f"{self._who}-{time.strftime('%Y%m%dT%H%M%S')}-{self._ring.next:09d}{SUFFIX}"
            state = self._state_for(first)
            path, is_whole = self.directory / name, state is not None

            def ended(fault: str) -> None:
                if fault:
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
        """Something went wrong that nobody foresaw: write what led to it, unless that was done of late."""
        if now >= self._failed_at + FAILURES_AGAIN_S:
            self._failed_at = now
            self.write(f"a failure: {type(error).__name__}: {error}", now)

    def crashed(self, error: BaseException, now: float) -> None:
        """The same when the daemon is about to end by it: written when this returns, or the log says why not."""
        self._failed_at = -math.inf
        self.failed(error, now)
        self.close()

    def close(self) -> None:
        """Wait for what is being written; no more is, and who has asked for more hears so."""
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
        file.flush()  # or the fork would write it once more
        if rest is None:
            done("")
        else:
            self._fork(pack_all, done, {file.fileno()})

    def _keep(self, state: _State) -> None:
        """Beside the one before it, as long as the ring has what came after that."""
        self._states.append(state)
        while len(self._states) > 2 or (len(self._states) > 1 and self._states[0].number < self._ring.first):
            self._states.popleft().file.close()

    def _state_for(self, first: int) -> _State | None:
        """The newest that is not after step `first`, else the oldest: if the ring has all steps since."""
        usable = [state for state in self._states if state.number >= self._ring.first]
        before = [state for state in usable if state.number <= first]
        return before[-1] if before else usable[0] if usable else None

    # -- forks ----------------------------------------------------------------------------------------------------------

    def _fork(self, work: Callable[[], None], done: Callable[[str], None], kept: set[int]) -> None:
        """Have `work` done by a fork of this process, which has everything as it is now, but of its descriptors only these;
        `done(fault)` when it has ended.
        """
        try:
            with warnings.catch_warnings():
                # Python's own objects are whole in the fork, which uses nothing that our other threads may hold.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError as error:  # no memory, or too many processes
            done(error.strerror or str(error))
            return
        if pid:
            self._works[pid] = done
            return
        status = 1
        try:
            # Signals to us are none to the daemon: its wake-up descriptor is ours, too.
            signal.set_wakeup_fd(-1)
            # The daemon may be killed, and the next one start, before we have ended: its locks and sockets must be free.
            first = 3
            for fd in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
                os.closerange(first, fd)
                first = fd + 1
            gc.disable()  # a collection would write to, and so copy, most of our memory
            work()
            status = 0
        except Exception as error:  # marked: nothing of the daemon's may run on here
            with suppress(OSError):
                os.write(2, f"offerd: a recording failed: {describe('it', error)}\n".encode(errors="replace"))
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid in [*self._works]:
            ended, wait_status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended(pid, wait_status)

    def _ended(self, pid: int, wait_status: int) -> None:
        code = os.waitstatus_to_exitcode(wait_status)
        how = "said why on stderr" if code > 0 else f"was killed by signal {-code}"
        self._works.pop(pid)("" if code == 0 else f"the process that was to write it {how}")

    def _write(self, path: Path, why: str, state: _State | None, first: int, now: float) -> None:
        """In a fork: whole under its name, or not at all."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        first = max(first, self._ring.first) if state is None else state.number
        header = Header(self._who, __version__, why, time.time(), now, first, state is not None)
        draft = path.with_name(f".{path.name}.new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            pieces = pack(header, (), self._ring.since(first))
            file.write(next(pieces))
            if state is not None:
                state.file.seek(0)
                shutil.copyfileobj(state.file, file)
            file.writelines(pieces)
        draft.rename(path)
        for old in sorted(self.directory.glob(f"{self._who}-*{SUFFIX}"))[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
