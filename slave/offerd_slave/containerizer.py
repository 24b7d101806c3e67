"""Launches, limits and ends containers for the core: sandbox, checkpoint, isolation and processes, in an order that survives a
crash between any two steps.

    LaunchContainer:  directories -> checkpoint (no shim yet) -> isolation.prepare -> zygote
    its shim answers: checkpoint (with the shim) -> isolation.isolate -> watched by pidfd
    DestroyContainer: isolation.cleanup, again and again until nothing is left (`retries.py` says when)

Each result becomes an event, from which the core decides what follows.
A module that may block (`Isolation.blocking`) works in a thread of its own; its results come back through `fd`.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from offerd.errors import BadInput
from offerd.ids import ContainerID, TaskID, owner_of
from offerd.resources import NOTHING, Resources
from offerd.wire.posix_text import packed_table
from offerd_isolation.base import ContainerSpec, Isolation, IsolationError, Launch, Usage
from offerd_linux.process_ids import ProcessID
from offerd_slave import users
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.data_files import DataDirectory
from offerd_slave.endpoint import Endpoint, Heard
from offerd_slave.exits import ExitWatcher
from offerd_slave.launch.spec import Launched, LaunchSpec
from offerd_slave.launch.zygote_client import ZygoteClient
from offerd_slave.options import SlaveOptions
from offerd_slave.records import ContainerCheckpoint, UnwritableRecord
from offerd_slave.retries import Key, Retries
from offerd_slave.sandbox import make_container
from offerd_slave.workdir import WorkDir, to_checkpoint

log = logging.getLogger("offerd.slave")

WHOLE = TaskID("")
"""Stands for the container itself, in place of a task."""

PREPARED_AT_ONCE = 64
"""Enough that containers whose image is present do not wait for those that pull one."""
R = TypeVar("R")
Emit = Callable[[ev.Event], None]


class Containerizer:
    """Performs the core's actions on containers, and reports their results through `emit`."""

    def __init__(
        self,
        options: SlaveOptions,
        workdir: WorkDir,
        isolation: Isolation,
        zygote: ZygoteClient,
        endpoint: Endpoint,
        emit: Emit,
        data: DataDirectory,
    ) -> None:
        self._options = options
        self._workdir = workdir
        self._data = data
        self._isolation = isolation
        self._zygote = zygote
        self.exits = ExitWatcher()
        self._endpoint = endpoint
        self._emit = emit
        self._checkpoints: dict[ContainerID, ContainerCheckpoint] = {}
        self._launching: set[ContainerID] = set()  # neither module nor zygote has answered yet
        self._retries = Retries(options.settings.unkillable_s)
        self.measured: dict[ContainerID, tuple[float, Usage]] = {}  # cpus used lately, and the usage
        self._measured_at: float | None = None
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._results: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_closed = False
        self._closing = threading.Lock()
        self._thread = _Threads(1, "isolation") if isolation.blocking else None
        # No other method is called for a container that is being prepared, which may take as long as a pull.
        self._preparers = _Threads(PREPARED_AT_ONCE, "prepare") if isolation.blocking else None

    # -- launching ------------------------------------------------------------------------------------------------------

    def launch(self, action: act.LaunchContainer, slave_id: str) -> None:
        """Answered by LaunchFailed if it fails; otherwise the executor registers, or ExecutorEnded follows."""
        container_id, executor, framework = action.container_id, action.executor, action.framework
        token = secrets.token_urlsafe(24)
        try:
            account = users.look_up(framework.user)
            owner = owner_of(framework.framework_id)
            sandbox = make_container(self._workdir.container(container_id), account.credentials, owner)
            checkpoint = ContainerCheckpoint(
                container_id,
                framework,
                executor,
                token,
                self._isolation.name,
                uid=account.uid,
                gid=account.gid,
            )
            self._data.let_in(owner, account.uid)
            self._workdir.save_container(checkpoint)
            self._endpoint.expect(container_id, token, account.uid, account.gid)
        except (OSError, ValueError) as error:
            self._emit(ev.LaunchFailed(container_id, f"cannot make its sandbox: {error}"))
            return
        self._checkpoints[container_id] = checkpoint
        spec = self._spec(checkpoint, action.resources)

        def prepared(launch: Launch) -> None:
            if self._preparers is not None:
                self._emit(ev.ContainerPreparing(container_id, ""))
            self._zygote.launch(
                LaunchSpec(
                    container_id=container_id,
                    container_dir=self._workdir.container(container_id),
                    sandbox=sandbox,
                    module=executor.module,
                    argv=_argv(action),
                    environment=self._environment(action, account, token, slave_id, launch)
                    | launch.environment,
                    credentials=account.credentials,
                    cgroup=launch.cgroup,
                    enter=launch.enter,
                    log_bytes=self._options.log_bytes,
                )
            )

        def refused(error: IsolationError) -> None:
            self._launching.discard(container_id)
            self._emit(ev.LaunchFailed(container_id, str(error)))

        def report(text: str) -> None:
            self._put(lambda: self._emit(ev.ContainerPreparing(container_id, text)))

        self._launching.add(container_id)
        if executor.image and not self._isolation.runs_images:
            refused(IsolationError(f"isolation {self._isolation.name} runs no images ({executor.image})"))
            return
        if self._preparers is not None:
            self._emit(ev.ContainerPreparing(container_id, None))
        self._isolate(lambda: self._isolation.prepare(spec, report), prepared, refused, self._preparers)

    def zygote_answered(self) -> None:
        """The zygote or shims have answered."""
        for reply in self._zygote.replies():
            self._launching.discard(reply.container_id)
            if isinstance(reply, Launched):
                self._launched(reply.container_id, reply.shim)
            else:
                self._emit(ev.LaunchFailed(reply.container_id, reply.message))

    def _launched(self, container_id: ContainerID, shim: ProcessID) -> None:
        checkpoint = msgspec.structs.replace(self._checkpoints[container_id], shim=to_checkpoint(shim))
        self._checkpoints[container_id] = checkpoint
        trouble = ""
        try:
            self._workdir.save_container(checkpoint)
        except (OSError, UnwritableRecord) as error:
            # It is isolated all the same, so that `destroy` finds all of it.
            trouble = f"cannot write its checkpoint: {error}"

        def isolated(_: None) -> None:
            if trouble:
                self._emit(ev.LaunchFailed(container_id, trouble))
            else:
                self._watch(container_id, shim)

        self._isolate(
            lambda: self._isolation.isolate(container_id, shim),
            isolated,
            lambda error: self._emit(ev.LaunchFailed(container_id, trouble or str(error))),
        )

    def _watch(self, container_id: ContainerID, shim: ProcessID) -> None:
        directory = self._workdir.container(container_id)
        if not self.exits.watch(container_id, shim, directory):
            self._emit(ev.ExecutorEnded(container_id, self.exits.record(directory)))

    def executors_ended(self) -> None:
        """Shims have ended: emit ExecutorEnded for each."""
        for container_id, record in self.exits.ended():
            for heard in self._endpoint.last_messages(container_id):
                self.heard(heard)
            self._emit(ev.ExecutorEnded(container_id, record))

    def _environment(
        self, action: act.LaunchContainer, account: users.Account, token: str, slave_id: str, launch: Launch
    ) -> dict[str, str]:
        """The executor's environment: of the slave's own, it only gets PATH and LANG. Values are packed."""
        command = action.executor.command
        sandbox = str(self._workdir.sandbox(action.container_id))
        environment = {
            **account.variables,
            # The user's home directory does not exist in a container with an image.
            **({"HOME": sandbox} if launch.enter is not None else {}),
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "OFFERD_SLAVE_SOCKET": self._endpoint.address(action.container_id),
            "OFFERD_CONTAINER_ID": action.container_id,
            "OFFERD_TOKEN": token,
            "OFFERD_FRAMEWORK_ID": action.framework.framework_id,
            "OFFERD_EXECUTOR_ID": action.executor.executor_id,
            "OFFERD_SLAVE_ID": slave_id,
            "OFFERD_SANDBOX": sandbox,
            "OFFERD_LOG_BYTES": str(self._options.log_bytes),
            "OFFERD_DATA_DIR": str(self._data.of_framework(action.framework.framework_id)),
        }
        return packed_table(environment) | (command.environment if command is not None else {})

    def _spec(self, of: ContainerCheckpoint, resources: Resources = NOTHING) -> ContainerSpec:
        return ContainerSpec(
            of.container_id,
            of.framework.framework_id,
            of.executor,
            self._workdir.sandbox(of.container_id),
            of.framework.user,
            resources,
            self._data.of_framework(of.framework.framework_id),
        )

    # -- recovery -------------------------------------------------------------------------------------------------------

    def adopt(self, checkpoint: ContainerCheckpoint, shim: ProcessID | None) -> bool:
        """Adopt a container that an earlier slave process has started. False if its shim does not run any more."""
        container_id = checkpoint.container_id
        self._checkpoints[container_id] = checkpoint
        directory = self._workdir.container(container_id)
        if shim is None or not self.exits.watch(container_id, shim, directory):
            return False
        try:
            if checkpoint.uid >= 0:
                self._endpoint.expect(container_id, checkpoint.token, checkpoint.uid, checkpoint.gid)
            else:
                uid = users.look_up(checkpoint.framework.user).uid
                self._endpoint.expect_at_shared(container_id, checkpoint.token, uid)
        except (OSError, BadInput) as error:
            log.warning("the executor of %s cannot connect, and will be ended: %s", container_id, error)
        return True

    def adopt_limits(self, checkpoint: ContainerCheckpoint) -> None:
        """Have the isolation module adopt the container, after its recovery. Raises `IsolationError`."""
        self._isolation.adopt(self._spec(checkpoint))

    # -- limits and ends ------------------------------------------------------------------------------------------------

    def update(self, action: act.UpdateContainer) -> None:
        # Never in the module's thread, which may be waiting for an engine: the next action delivers a task that may need the
        # raised limits.
        outcome = _attempt(lambda: self._isolation.update(action.container_id, action.resources))
        self._finish(outcome, lambda _: None, None)

    def prepare_task(self, action: act.PrepareTask) -> None:
        self._isolate(
            lambda: self._isolation.prepare_task(
                action.container_id, action.task_id, action.resources, action.labels
            ),
            failed=lambda error: self._emit(
                ev.TaskNotPrepared(
                    action.container_id, action.task_id, f"its limits could not be set: {error}"
                )
            ),
        )

    def cleanup_task(self, container_id: ContainerID, task_id: TaskID, now: float) -> None:
        """Answered by TaskCleanedUp when nothing is left of the task."""
        self._retries.begin((container_id, task_id), now)
        self._cleanup_task(container_id, task_id, now)

    def _cleanup_task(self, container_id: ContainerID, task_id: TaskID, now: float) -> None:
        def done(gone: bool) -> None:
            if gone:
                self._retries.drop((container_id, task_id))
                self._emit(ev.TaskCleanedUp(container_id, task_id))
            else:
                self._look_again((container_id, task_id), now)

        self._isolate(
            lambda: self._isolation.cleanup_task(container_id, task_id),
            done,
            lambda error: self._look_again((container_id, task_id), now, str(error)),
        )

    def keep_tasks(self, action: act.KeepTasks, now: float) -> None:
        """Clean up the limits of all other tasks, which an earlier slave process has left if it died between two steps."""
        kept = set(action.task_ids)

        def known(task_ids: list[TaskID]) -> None:
            for task_id in task_ids:
                if task_id not in kept:
                    self.cleanup_task(action.container_id, task_id, now)

        self._isolate(lambda: list(self._isolation.tasks(action.container_id)), known)

    def find_unkillable(self, action: act.FindUnkillable) -> None:
        container_id, task_id = action.container_id, action.task_id
        self._isolate(
            lambda: self._isolation.unkillable(container_id, task_id),
            lambda unkillable: self._emit(ev.UnkillableFound(container_id, task_id, unkillable)),
        )

    def inspect_failure(self, action: act.InspectFailure) -> None:
        """Find the limit that was hit; never in the module's thread, as the next action may clean up the task."""
        container_id, task_id = action.container_id, action.task_id
        hit = _attempt(lambda: self._isolation.why_failed(container_id, task_id, action.exit_status))
        if isinstance(hit, IsolationError):
            self._emit(ev.IsolationFailed(str(hit)))
            hit = None
        self._emit(ev.FailureInspected(container_id, task_id, hit))

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> None:
        """Kill a task's processes without its executor; answered by TaskKillRefused if the module cannot."""

        def done(could: bool) -> None:
            if not could:
                self._emit(ev.TaskKillRefused(container_id, task_id))

        self._isolate(lambda: self._isolation.kill_task(container_id, task_id), done)

    def destroy(self, container_id: ContainerID, now: float) -> None:
        """Answered by ContainerDestroyed when nothing is left."""
        self._retries.begin((container_id, WHOLE), now)
        self._destroy(container_id, now)

    def _destroy(self, container_id: ContainerID, now: float) -> None:
        if container_id in self._launching:
            # Its shim may be about to start. It could not be found and killed yet, so wait for the launch's result.
            self._isolation.cancel(container_id)
            self._retries.later((container_id, WHOLE), now)
            return

        def done(gone: bool) -> None:
            if gone:
                self._retries.drop_container(container_id)
                self.exits.forget(container_id)
                self._emit(ev.ContainerDestroyed(container_id))
            else:
                self._look_again((container_id, WHOLE), now)

        self._isolate(
            lambda: self._isolation.cleanup(container_id),
            done,
            lambda error: self._look_again((container_id, WHOLE), now, str(error)),
        )

    def _look_again(self, key: Key, now: float, complaint: str = "") -> None:
        """Something of it still exists: look again later, and report what is unkillable if it takes too long."""
        look = self._retries.still_there(key, now, complaint)
        if look.is_news:
            self._emit(ev.IsolationFailed(complaint))
        if look.is_overdue:

            def found(unkillable: str) -> None:
                if unkillable:
                    self._emit(ev.Unkillable(*key, unkillable))

            self._isolate(lambda: self._isolation.unkillable(*key), found)

    def forget(self, container_id: ContainerID) -> None:
        self._checkpoints.pop(container_id, None)
        self.measured.pop(container_id, None)
        self._endpoint.forget(container_id)
        self._workdir.forget_container(container_id)

    def tick(self, now: float) -> None:
        """Clean up again what still had processes."""
        for container_id, task_id in self._retries.due(now):
            if task_id:
                self._cleanup_task(container_id, task_id, now)
            else:
                self._destroy(container_id, now)

    def next_deadline(self) -> float | None:
        return self._retries.next()

    def heard(self, heard: Heard) -> None:
        """An executor has sent a message: emit FromExecutor, or ExecutorFaulty if it is invalid."""
        container_id, message, fault = heard
        self._emit(
            ev.ExecutorFaulty(container_id, fault) if fault else ev.FromExecutor(container_id, message)
        )

    def verify(self) -> None:
        """Have the module check the limits, which somebody else may have changed."""

        def found(complaints: list[str]) -> None:
            for complaint in complaints:
                log.warning("limits were changed from outside: %s", complaint)

        self._isolate(lambda: list(self._isolation.verify()), found)

    def watch_limits(self) -> None:
        for limitation in self._isolation.watch():
            self._emit(ev.LimitHit(limitation))

    def measure(self, now: float) -> None:
        """Measure usage and cpu time since the last measurement; answered by UsageMeasured."""
        containers = list(self._checkpoints)
        since, self._measured_at = self._measured_at, now

        def measured(usages: list[tuple[ContainerID, Usage]]) -> None:
            elapsed_s = now - since if since is not None else 0.0
            used_cpus, mem_bytes = 0.0, 0
            for container_id, usage in usages:
                before_s = self.measured[container_id][1].cpu_s if container_id in self.measured else 0.0
                cpus = max(0.0, usage.cpu_s - before_s) / elapsed_s if elapsed_s > 0 else 0.0
                self.measured[container_id] = (cpus, usage)
                used_cpus += cpus
                mem_bytes += usage.mem_bytes
            self._emit(ev.UsageMeasured(round(1000 * used_cpus), mem_bytes))

        self._isolate(lambda: [(c, self._isolation.usage(c)) for c in containers], measured)

    # -- calls to the module, here or in its thread ---------------------------------------------------------------------

    def _isolate(
        self,
        work: Callable[[], R],
        then: Callable[[R], None] = lambda _: None,
        failed: Callable[[IsolationError], None] | None = None,
        threads: _Threads | None = None,
    ) -> None:
        if self._thread is None:
            self._finish(_attempt(work), then, failed)
            return
        if not (threads or self._thread).submit(lambda: self._in_thread(work, then, failed)):
            no_thread = IsolationError("the slave can start no more threads")
            self._put(lambda: self._finish(no_thread, then, failed))

    def _in_thread(
        self,
        work: Callable[[], R],
        then: Callable[[R], None],
        failed: Callable[[IsolationError], None] | None,
    ) -> None:
        outcome: R | IsolationError
        try:
            outcome = _attempt(work)
        except Exception as error:  # marked: otherwise a container would wait for ever
            log.exception("isolation %s has a bug", self._isolation.name)
            outcome = IsolationError(f"isolation {self._isolation.name} has a bug: {error!r}")
        self._put(lambda: self._finish(outcome, then, failed))

    def _put(self, result: Callable[[], None]) -> None:
        """Pass a result to the slave's loop, from any thread. It is dropped if the loop has ended."""
        with self._closing:
            if not self._is_closed:
                self._results.put(result)
                os.eventfd_write(self.fd, 1)

    def _finish(
        self,
        outcome: R | IsolationError,
        then: Callable[[R], None],
        failed: Callable[[IsolationError], None] | None,
    ) -> None:
        if not isinstance(outcome, IsolationError):
            then(outcome)
        elif failed is not None:
            failed(outcome)
        else:
            self._emit(ev.IsolationFailed(str(outcome)))

    def results_ready(self) -> None:
        """The module's threads have results: handle them."""
        os.eventfd_read(self.fd)
        while not self._results.empty():
            self._results.get()()

    def close(self) -> None:
        """Close without waiting for threads: the next slave process finds what they have done, or does it."""
        for threads in (self._thread, self._preparers):
            if threads is not None:
                threads.close()
        for container_id in self._launching:
            self._isolation.cancel(container_id)
        self._isolation.close()
        self.exits.close()
        with self._closing:
            self._is_closed = True
            os.close(self.fd)


class _Threads:
    """A pool of at most `most` threads, started when they are needed. They are daemon threads, unlike those of a
    `ThreadPoolExecutor`, so that the end of the slave does not wait for an engine that hangs."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._made = 0
        self._idle = threading.Semaphore(0)
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def submit(self, work: Callable[[], None]) -> bool:
        """Queue work, which must not raise. False if no thread can be started for it. Only the slave's loop calls this."""
        # Queued before the thread starts: a thread that found nothing would count as idle too early.
        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._made < self._most:
            name = f"{self._name}-{self._made + 1}"
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
                self._made += 1
            except RuntimeError:
                if not self._made:
                    self._work.get_nowait()
                    return False
        return True

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get_nowait()
            except queue.Empty:
                self._idle.release()
                work = self._work.get()
            if work is None:
                return
            work()

    def close(self) -> None:
        """End the threads. Work that has not begun is dropped."""
        with suppress(queue.Empty):
            while True:
                self._work.get_nowait()
        for _ in range(self._made):
            self._work.put(None)


def _attempt(work: Callable[[], R]) -> R | IsolationError:
    try:
        return work()
    except IsolationError as error:
        return error


def _argv(action: act.LaunchContainer) -> list[str]:
    command = action.executor.command
    if command is None:
        return []
    return ["/bin/sh", "-c", command.shell] if command.shell else list(command.argv)
