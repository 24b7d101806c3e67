"""The MPI framework: the public SDK on one side, `mpiexec.hydra` on the other, the core between them.

One thread owns the core and all children; what happens in the driver's thread becomes an event for it. For each job one process
manager runs here, and on each slave of its gang one task runs a proxy, which starts that slave's ranks. The ranks' output comes
back through the proxies as it is written.
"""

from __future__ import annotations

import os
import random
import selectors
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Protocol

import offerd
from offerd import ExecutorID, FrameworkID, OfferID, SlaveID, TaskID, Waiting
from offerd_frameworks.mpi.core import actions as a
from offerd_frameworks.mpi.core import events as e
from offerd_frameworks.mpi.core.attempt import EXIT_FAILURE
from offerd_frameworks.mpi.core.job import Job, Outcome
from offerd_frameworks.mpi.core.queue import GangQueue
from offerd_frameworks.mpi.hydra import ADDRESS_VARIABLE, WORDS, Hydra, own_address, passed_on
from offerd_frameworks.mpi.output import Piece

COMMAND_EXECUTOR = offerd.ExecutorInfo(ExecutorID("command"), module="offerd_executors.command", name="mpi")
LOOK_FIRST_S, LOOK_AGAIN_S = 0.3, 0.5
"""When to check whether the proxies have connected: not while they start."""
ANY_SLAVE: Mapping[str, str] = {}
NOT_BOUND = (
    "this kernel does not let us read mpiexec.hydra's sockets (pidfd_getfd): it listens on all addresses of this host, and the "
    "first to connect gets the job's environment"
)


class Watcher(Protocol):
    """Receives news of jobs, in the framework's thread: be quick. An error that it raises ends the framework."""

    def started(self, job_id: str, hosts: tuple[str, ...]) -> None:
        """The gang is complete; `hosts` as `slave-1:2`."""

    def wrote(self, job_id: str, pieces: Iterable[Piece], *, is_stderr: bool) -> None:
        """Lines of ranks. They must be read before this returns: long ones are not kept in memory."""

    def noted(self, job_id: str, text: str) -> None:
        """A line for the job's owner."""

    def waits(self, job_id: str, waiting: Waiting) -> None:
        """Why the gang does not get its slots; called once for each reason."""

    def ended(self, job_id: str, outcome: Outcome) -> None:
        """The job is over."""

    def broken(self) -> None:
        """The driver or the framework's thread has ended, and all jobs with it; `MpiFramework.close` raises why."""


class MpiFramework(offerd.Scheduler):
    """Runs MPI jobs until closed.

        framework = MpiFramework(watcher)
        framework.start()
        framework.submit(Job("hello", ("./hello",), ranks=4, need=offerd.Resources.of(cpus=1, mem="64M")))

    `attributes`: those that a slave must have.

    `stdin`: a descriptor that rank 0 of every job and attempt reads: a file from its current position, a pipe from where the
    last one stopped. `seed` makes the pauses between attempts to get a gang repeatable.
    """

    def __init__(
        self,
        watcher: Watcher,
        master: str | None = None,
        *,
        name: str = "mpi",
        role: str = "*",
        user: str = "",
        hold_s: float = 5.0,
        attributes: Mapping[str, str] = ANY_SLAVE,
        seed: int | None = None,
        stdin: int | None = None,
    ) -> None:
        self._watcher = watcher
        self._core = GangQueue(random.Random(seed).random, hold_s)
        self._stdin = stdin
        self._stdin_at = None if stdin is None else _position(stdin)
        self._runs: dict[str, _Run] = {}
        self._inbox: deque[Callable[[], None]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._is_closing = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name="offerd-mpi", daemon=True)
        info = offerd.FrameworkInfo(name, role=role, user=user, executors=[COMMAND_EXECUTOR])
        self._driver = offerd.SchedulerDriver(self, info, master, connect_timeout_s=None)
        self._driver.set_needs_offers(False)
        if attributes:
            self._driver.set_filters(offerd.Filters(attributes=dict(attributes)))

    def __del__(self) -> None:
        # Not at the loop's end: a later event would write to the descriptor's number, which may be another file by then.
        if self._wakeup >= 0:
            os.close(self._wakeup)

    # -- for the owner ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register with the master and begin. Raises `OfferdError` if there is none."""
        try:
            self._thread.start()
        except RuntimeError:
            raise offerd.NoThread("MPI jobs") from None
        self._driver.start()
        self._driver.wait_registered()

    @property
    def is_registered(self) -> bool:
        """Whether this framework is registered with a master now."""
        return self._driver.is_registered

    def submit(self, job: Job) -> None:
        """Append a job to the queue; the watcher gets all further news. May be called before `start`."""
        self._post(e.Submitted(job))

    def cancel(self, job_id: str, exit_status: int) -> None:
        """End a job, waiting or running; it is over when the watcher is called."""
        self._post(e.Cancelled(job_id, exit_status))

    def close(self) -> None:
        """Unregister, which ends all tasks and children. Raises what ended the driver or this framework's thread before, if
        anything did.
        """
        self._driver.stop()
        try:
            self._driver.join()
        finally:
            self._is_closing = True
            self._wake()
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    # -- the driver's callbacks, in its thread ----------------------------------------------------------------------

    def registered(self, driver: offerd.SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        driver.ask_guaranteed_share().add_done_callback(self._on_guarantee)

    def reregistered(self, driver: offerd.SchedulerDriver, master_id: str) -> None:
        driver.ask_guaranteed_share().add_done_callback(self._on_guarantee)

    def resource_offers(self, driver: offerd.SchedulerDriver, offers: list[offerd.Offer]) -> None:
        self._post(e.OffersCame(offers))

    def offer_rescinded(self, driver: offerd.SchedulerDriver, offer_id: OfferID) -> None:
        self._post(e.OfferRescinded(offer_id))

    def status_update(self, driver: offerd.SchedulerDriver, status: offerd.TaskStatus) -> None:
        self._post(e.StatusCame(status))

    def slave_lost(self, driver: offerd.SchedulerDriver, slave_id: SlaveID) -> None:
        self._post(e.SlaveLost(slave_id))

    def error(self, driver: offerd.SchedulerDriver, reason: str, message: str) -> None:
        self._watcher.broken()

    def _on_guarantee(self, answer: Future[offerd.Resources]) -> None:
        if answer.exception() is None:
            self._post(e.GuaranteeKnown(answer.result()))

    def _post(self, event: e.Event) -> None:
        self._inbox.append(lambda: self._perform(self._core.handle(event, time.monotonic())))
        self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    # -- the framework's own thread ---------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            self._take_turns()
        except BaseException as error:  # marked: the watcher is its owner's code; close() raises it
            self._failure = error
        finally:
            for run in list(self._runs.values()):
                run.hydra.kill()
                run.hydra.wait()
            self._selector.close()
        if self._failure is not None:
            self._watcher.broken()

    def _take_turns(self) -> None:
        while not self._is_closing:
            now = time.monotonic()
            due = min((run.look_at for run in self._runs.values()), default=self._core.next_deadline())
            due = min(due, self._core.next_deadline())
            timeout_s = None if due == float("inf") else max(due - now, 0.0)
            for key, _ in self._selector.select(timeout_s):
                if key.fd == self._wakeup:
                    os.eventfd_read(self._wakeup)
                else:
                    key.data()
            while self._inbox:
                self._inbox.popleft()()
            self._look()
            self._perform(self._core.tick(time.monotonic()))

    def _perform(self, actions: list[a.Action]) -> None:
        driver, watcher = self._driver, self._watcher
        for action in actions:
            match action:
                case a.StartHydra():
                    self._start(action)
                case a.LaunchProxies():
                    self._launch(action)
                case a.DeclineOffers(offer_ids, refuse_s):
                    driver.decline_offer(offer_ids, refuse_s)
                case a.AskForOffers(wanted):
                    driver.set_needs_offers(wanted)
                case a.KillTasks(task_ids, grace_s):
                    for task_id in task_ids:
                        driver.kill_task(task_id, grace_s)
                case a.KillHydra(attempt_id):
                    if run := self._runs.get(attempt_id):
                        run.hydra.kill()
                case a.Note(job_id, text):
                    watcher.noted(job_id, text)
                case a.AskWhy(job):
                    self._ask_why(job)
                case a.ReportWaiting(job_id, waiting):
                    watcher.waits(job_id, waiting)
                case a.JobStarted(job_id, _, hosts):
                    watcher.started(job_id, hosts)
                case a.JobEnded(job_id, outcome):
                    watcher.ended(job_id, outcome)

    def _ask_why(self, job: Job) -> None:
        def answered(answer: Future[Waiting]) -> None:
            if answer.exception() is None:
                self._post(e.WhyCame(job.job_id, answer.result()))

        per_slave = job.per_slave or 0
        self._driver.explain_waiting(
            job.need, job.time_limit_s, count=job.ranks, per_slave=per_slave
        ).add_done_callback(answered)

    def _start(self, action: a.StartHydra) -> None:
        job = action.job
        words = {name.decode(*WORDS): value.decode(*WORDS) for name, value in os.environb.items()}
        environment = passed_on(words)
        # For mpi4py's wheel, which cannot know that the library it finds is MPICH's.
        environment.setdefault("MPI4PY_MPIABI", "mpich")
        if self._stdin is not None and self._stdin_at is not None:
            os.lseek(self._stdin, self._stdin_at, os.SEEK_SET)
        try:
            hydra = Hydra(
                job.argv,
                [(share.hostname, share.ranks) for share in action.shares],
                own_address([share.host for share in action.shares]),
                directory=job.directory,
                environment={**environment, **job.environment},
                stdin=self._stdin,
            )
        except offerd.OfferdError as error:
            self._post(e.HydraEnded(action.attempt_id, EXIT_FAILURE, str(error)))
            return
        run = _Run(action.attempt_id, job.job_id, hydra, len(action.shares))
        self._runs[action.attempt_id] = run
        register = self._selector.register
        register(hydra.stdout, selectors.EVENT_READ, lambda: self._read(run, is_stderr=False))
        register(hydra.stderr, selectors.EVENT_READ, lambda: self._read(run, is_stderr=True))
        register(hydra.pidfd, selectors.EVENT_READ, lambda: self._reap(run))

    def _read(self, run: _Run, *, is_stderr: bool) -> bool:
        """Read once; False at the end of the stream."""
        if run.attempt_id not in self._runs:  # reaped a moment ago, in the same turn
            return False
        was_ready = run.hydra.is_ready
        try:
            pieces = run.hydra.read(is_stderr=is_stderr)
        except offerd.OfferdError as error:
            self._fail(run, error)
            pieces = None
        if pieces is None:
            stream = run.hydra.stderr if is_stderr else run.hydra.stdout
            if stream in self._selector.get_map():
                self._selector.unregister(stream)
            return False
        self._pass_on(run, pieces, is_stderr=is_stderr)
        if run.hydra.is_ready and not was_ready:
            if not run.hydra.is_bound:
                self._watcher.noted(run.job_id, NOT_BOUND)
            self._post(e.HydraReady(run.attempt_id))
        if self._core.is_ending(run.attempt_id):
            self._post(e.OutputCame(run.attempt_id))
        for rank, exit_status, was_asked in run.hydra.deaths[run.deaths_reported :]:
            run.deaths_reported += 1
            self._post(e.RankDied(run.attempt_id, rank, exit_status, was_asked))
        if run.deaths_reported:
            for rank in run.hydra.silent[run.silent_reported :]:
                self._post(e.RankSilent(run.attempt_id, rank))
            run.silent_reported = len(run.hydra.silent)
        return True

    def _pass_on(self, run: _Run, pieces: Iterator[Piece], *, is_stderr: bool) -> None:
        """Pass lines to the watcher. If they cannot be read, this job ends; if the watcher raises, everything does."""

        def readable() -> Iterator[Piece]:
            try:
                yield from pieces
            except offerd.OfferdError as error:
                self._fail(run, error)

        lines = readable()
        self._watcher.wrote(run.job_id, lines, is_stderr=is_stderr)
        deque(lines, maxlen=0)  # reads what the watcher has not read, up to the ranks' ends

    def _fail(self, run: _Run, error: offerd.OfferdError) -> None:
        run.failure = str(error)
        run.hydra.kill()

    def _reap(self, run: _Run) -> None:
        """The process manager has ended: handle its last output first."""
        for is_stderr in (False, True):
            while self._read(run, is_stderr=is_stderr):
                pass
        for is_stderr in (False, True):
            self._pass_on(run, run.hydra.rest(is_stderr=is_stderr), is_stderr=is_stderr)
        self._selector.unregister(run.hydra.pidfd)
        del self._runs[run.attempt_id]
        status = run.hydra.wait()
        if run.failure:
            status = EXIT_FAILURE
        words = run.failure or run.hydra.words
        unheard = run.hydra.unheard if status == 0 or run.hydra.has_output else ()
        self._post(e.HydraEnded(run.attempt_id, status, words, unheard))

    def _launch(self, action: a.LaunchProxies) -> None:
        run, job = self._runs[action.attempt_id], action.job
        for share, task_id, argv in zip(action.shares, action.task_ids, run.hydra.commands, strict=True):
            task = offerd.TaskInfo(
                TaskID(task_id),
                job.times(share.ranks),
                COMMAND_EXECUTOR.executor_id,
                offerd.CommandInfo(argv=argv, environment={ADDRESS_VARIABLE: share.host}, umask=job.umask),
                time_limit_s=job.time_limit_s,
                name=os.path.basename(job.argv[0]),
            )
            if fault := self._driver.fault(
                task
            ):  # the process manager will report that the proxies do not come
                run.failure = fault
                run.hydra.kill()
                self._driver.decline_offer(share.offer_ids, 0.0)
                continue
            self._driver.reply_to_offer(share.offer_ids, [task])
        run.look_at = time.monotonic() + LOOK_FIRST_S

    def _look(self) -> None:
        """Check which proxies have connected, until all have."""
        now = time.monotonic()
        for run in self._runs.values():
            if now < run.look_at:
                continue
            if not self._core.awaits_proxies(run.attempt_id):
                run.look_at = float("inf")
                continue
            run.look_at = now + LOOK_AGAIN_S
            connected = run.hydra.arrived()
            # If the kernel does not let us read its sockets, hydra has to do without our watch over its connections.
            number = run.proxies if connected is None else connected
            if number > run.proxies:
                run.failure = "somebody else has connected to the job's process manager"
                run.hydra.kill()
                continue
            self._post(e.ProxiesConnected(run.attempt_id, number))


def _position(fd: int) -> int | None:
    """Where the next read of a file begins; None if it is not a file."""
    return os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(fd).st_mode) else None


class _Run:
    """A running process manager."""

    def __init__(self, attempt_id: str, job_id: str, hydra: Hydra, proxies: int) -> None:
        self.attempt_id = attempt_id
        self.job_id = job_id
        self.hydra = hydra
        self.proxies = proxies
        self.look_at = float("inf")
        self.deaths_reported = self.silent_reported = 0
        self.failure = ""
