"""The slave daemon: it runs `SlaveCore`, owns the sockets, files, processes and the clock, and makes no decisions.

One turn: wait -> read everything available -> the core handles each event -> `tick` -> write the journal -> send -> forget.
All records of a turn are written before its messages are sent.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import zmq

from offerd.daemons.log_limits import LogLimits
from offerd.daemons.recorder import Recorder, Written
from offerd.daemons.timings import LoopLag
from offerd.errors import KeyRefused, MessageTooLarge
from offerd.files_access import FilesSecret
from offerd.ids import ContainerID
from offerd.masters.absence import MasterWatch
from offerd.messages import Message, Pong, RegisterSlave, SlaveUsage
from offerd.values.screen_text import printable
from offerd.wire.descriptors import descriptors
from offerd.wire.pacing import Pacer
from offerd.wire.transport import new_context
from offerd_isolation.base import DEFAULT_OPTIONS, Isolation
from offerd_isolation.choose import choose
from offerd_slave import users
from offerd_slave.adoption import recover
from offerd_slave.checkpoint import keep_aside
from offerd_slave.containerizer import Containerizer
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core import memory, shares
from offerd_slave.core.recovery import Recovered
from offerd_slave.core.slave import SlaveCore
from offerd_slave.disk_watch import ContainerToCount, DiskWatch
from offerd_slave.endpoint import Endpoint
from offerd_slave.files_service import FilesService
from offerd_slave.fingerprint import describe, fingerprint
from offerd_slave.journal import Journal
from offerd_slave.launch.zygote_client import ZygoteClient
from offerd_slave.masters import client_of, master_of
from offerd_slave.memory_watch import MemoryWatch
from offerd_slave.metric_sources import MetricSources
from offerd_slave.options import SlaveOptions
from offerd_slave.persistence import Persistence
from offerd_slave.removal import try_to_remove
from offerd_slave.sandbox import Living, SandboxCollector
from offerd_slave.sifting import as_journal, sift
from offerd_slave.statistics import Statistics
from offerd_slave.workdir import WorkDir, new_incarnation

log = logging.getLogger("offerd.slave")

SIGNS_OF_LIFE = (Pong, RegisterSlave, SlaveUsage)
"""Messages that depend on no record. They are sent even while the journal cannot be written, as the master would otherwise
report all tasks as lost. A registration may name an ended task, but does not contain its status."""
OWN_DESCRIPTORS = 384
"""The most descriptors of the slave itself, including its file server."""
DESCRIPTORS_OF_A_CONTAINER = 8
"""The most descriptors of a container: a listener, its executor, four unregistered connections, the shim, and one for files."""


class SlaveDaemon:
    """One slave, from its options to its end."""

    fault = ""
    """Why it has ended, if that was a failure."""

    def __init__(self, options: SlaveOptions) -> None:
        """Lock and read the work directory, bind and connect. Raises `BadInput`."""
        self._default_user = users.default(options.default_user)
        master = master_of(options)
        self.options = options
        self.workdir = WorkDir(options.work_dir)
        self._isolation = self._choose_isolation()
        self._host = fingerprint(self.workdir.path, options.resources)
        self.journal = Journal(self.workdir.path / "tasks.journal")
        found = self.workdir.read(self.journal)
        for complaint in found.complaints:
            log.error("%s", complaint)

        self._lines = LogLimits(log.log)
        self._speaker: str | None = None  # the container whose message is being handled
        self._context = new_context()
        self._endpoint = Endpoint(self.workdir.sockets, self._lines)
        self._master = client_of(self._context, master)
        self._is_linked, self._drops_logged, self._watch = False, False, MasterWatch()
        self._files = FilesService(options, self.workdir.path, self._host.boot_id)
        self._zygote = ZygoteClient(log, are_images_run=self._isolation.runs_images)
        self._zygote.start()
        self._disk_watch = DiskWatch(self._isolation.disk_places)
        self._memory_watch = MemoryWatch(self._isolation)
        self._usual_share = self._share_of_disk()
        self._collector = SandboxCollector(self.workdir.path, options.leftovers)
        self._events: list[ev.Event] = []
        self._containerizer = Containerizer(
            options,
            self.workdir,
            self._isolation,
            self._zygote,
            self._endpoint,
            self._events.append,
            self._files.data,
        )
        self._persistence = Persistence(
            self.workdir, self.journal, self._host.boot_id, self._events.append, self._log, self._stop
        )
        self._to_master: list[Message] = []
        self._unwritten: list[Message] = []  # for the master, when the journal can be written again
        self._to_forget: list[ContainerID] = []
        self._running = True
        self._pacer = Pacer()
        self._wakeup, self._wakeup_write = socket.socketpair()
        self._faults_logged: Counter[tuple[type, type]] = Counter()  # messages that could not be handled
        self._recorder = Recorder("slave", lambda: self.core, self.workdir.path / "recordings")
        self.core = self._build_core(
            recover(found, self._host.boot_id, self.workdir, self._isolation, self._containerizer)
        )
        self._endpoint.sweep()
        statistics = Statistics(self.core.state, self._isolation, self._containerizer.measured)
        self._files.set_statistics(
            lambda owner: statistics.document(time.monotonic(), owner, self._files.refused)
        )
        self._lag = LoopLag(time.monotonic())
        self._metric_sources = self._find_metric_sources()
        self._files.set_metrics(self._metrics)
        self._performers = self._make_performers()
        self._recorder.begin(time.monotonic())

    # -- the start ------------------------------------------------------------------------------------------------------

    def _choose_isolation(self) -> Isolation:
        options = self.options
        isolation, why = choose(options.isolation, self.workdir.path, options.limits)
        log.info("isolation %s (%s)", isolation.name, why)
        if options.limits != DEFAULT_OPTIONS and not isolation.limits_containers:
            log.warning("isolation %s sets no limits: options for limits have no effect", isolation.name)
        return isolation

    def _share_of_disk(self) -> shares.Share | None:
        disk = os.statvfs(self.workdir.path)
        return shares.usual_share(
            self.options.disk_per_task_bytes, disk.f_blocks * disk.f_frsize, disk.f_files
        )

    def _build_core(self, recovered: Recovered) -> SlaveCore:
        """The core, with what was recovered; records that it cannot use are set aside."""
        settings = replace(
            self.options.settings,
            limits_containers=self._isolation.limits_containers,
            limits_tasks=self._isolation.limits_tasks,
            memory_note=self._isolation.memory_note,
            default_user=self._default_user,
            max_containers=max(16, (descriptors() - OWN_DESCRIPTORS) // DESCRIPTORS_OF_A_CONTAINER),
        )
        incarnation = new_incarnation()
        info = describe(self.options, self._host, self._isolation, self._files.address, self._default_user)
        start = partial(SlaveCore, settings, info, incarnation, files=self._files.secret)
        sifted = sift(lambda what: start(what, time.monotonic()), recovered)
        for complaint in sifted.complaints:
            log.error("%s", printable(complaint))
        for container_id in sifted.containers:
            self.workdir.set_aside(self.workdir.container(container_id) / "container.ckpt")
            self._containerizer.destroy(container_id, time.monotonic())
        if sifted.records:
            keep_aside(self.workdir.quarantine, self.journal.path.name, as_journal(sifted.records))
        if recovered.is_damaged or sifted.records:
            # So that the next start does not read the unusable records again.
            self._persistence.compact(time.monotonic(), sifted.core)
        return sifted.core

    def _find_metric_sources(self) -> MetricSources:
        return MetricSources(
            self.core,
            self._isolation.name,
            self.workdir.path,
            self.journal,
            self._persistence.syncs,
            self._lag.histogram,
            self._containerizer.measured,
            self._containerizer.exits,
            self._zygote,
        )

    def _make_performers(self) -> dict[type[act.Action], Callable[[Any], None]]:
        """The function that performs each action, except those that wait for the end of the turn."""
        containerizer, clock = self._containerizer, time.monotonic
        return {
            act.LaunchContainer: lambda a: containerizer.launch(a, self.core.state.slave_id),
            act.UpdateContainer: containerizer.update,
            act.PrepareTask: containerizer.prepare_task,
            act.CleanupTask: lambda a: containerizer.cleanup_task(a.container_id, a.task_id, clock()),
            act.KeepTasks: lambda a: containerizer.keep_tasks(a, clock()),
            act.FindUnkillable: containerizer.find_unkillable,
            act.InspectFailure: containerizer.inspect_failure,
            act.KillTaskProcesses: lambda a: containerizer.kill_task(a.container_id, a.task_id),
            act.DestroyContainer: lambda a: containerizer.destroy(a.container_id, clock()),
            act.ForgetContainer: lambda a: self._to_forget.append(a.container_id),
            act.SaveSlave: self._persistence.save_slave,
            act.MeasureUsage: lambda a: self._measure(),
            act.RefuseOwners: lambda a: self._renew_files_secret(self._files.refuse(a.numbers)),
            act.LookAtDisk: lambda a: self._persistence.look_at_disk(),
            act.Sync: lambda a: self._persistence.wanted_syncs.append(a.number),
            act.HearExecutor: lambda a: self._endpoint.hear(a.container_id, a.is_heard),
            act.Log: lambda a: self._log(getattr(logging, a.level), a.text),
            act.Record: self._record,
            act.Exit: lambda a: self._stop(a.why),
        }

    # -- the loop -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `Exit` or a signal. At SIGTERM the tasks run on, but an ephemeral slave ends them first."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, _noted_by_wakeup_fd)
        self._wakeup.setblocking(False)
        self._wakeup_write.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        self._watch_others()
        poller = self._poller()
        for remark in self._isolation.remarks():
            log.warning("isolation %s: %s", self._isolation.name, remark)
        log.info("work directory %s, resources %s", self.workdir.path, self._host.resources)
        while self._running:
            ready = self._wait(poller)
            self._pacer.collect(len(self.core.state.tasks), self.core.state.tasks_ended)
            self._lag.reads(time.monotonic())
            self._read(ready)
            self._turn()
            self._recorder.turn(time.monotonic())
            if self._master.follow():
                log.info("master %s leads", self._master.address.removeprefix("tcp://"))
                self._is_linked = False
                poller = self._poller()

    def _poller(self) -> zmq.Poller:
        """A poller for the ZeroMQ sockets, and one epoll for everything else, so that it is not rebuilt for each shim."""
        poller = zmq.Poller()
        poller.register(self._master.socket, zmq.POLLIN)
        poller.register(self._endpoint.fileno(), zmq.POLLIN)
        poller.register(self._master.link.socket, zmq.POLLIN)
        poller.register(self._others.fileno(), zmq.POLLIN)
        return poller

    def _watch_others(self) -> None:
        self._others = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {
            self._wakeup.fileno(): self._signalled,
            self._persistence.fd: self._persistence.synced,
            self._disk_watch.fd: lambda: self._events.extend(map(ev.OverDisk, self._disk_watch.found())),
            self._memory_watch.fd: lambda: self._events.extend(
                map(ev.OverMemory, self._memory_watch.found())
            ),
            self._zygote.fileno(): self._containerizer.zygote_answered,
            self._containerizer.fd: self._containerizer.results_ready,
            self._containerizer.exits.fileno(): self._containerizer.executors_ended,
            **dict.fromkeys(self._isolation.watch_fds(), self._containerizer.watch_limits),
        }
        if self._master.detector is not None:
            # Only to wake the loop, which calls `follow` at the end of its turn.
            self._readers[self._master.detector.fd] = lambda: None
        for fd in self._readers:
            self._others.register(fd, select.EPOLLIN)

    def _wait(self, poller: zmq.Poller) -> dict[Any, int]:
        """What is readable, when something is, or something is due."""
        now = time.monotonic()
        due_at = self._due_at(now)
        self._lag.waits(now, due_at)
        ready = dict(poller.poll(max(0, math.ceil(1000 * min(60.0, due_at - now)))))
        self._lag.woke(time.monotonic())
        return ready

    def _due_at(self, now: float) -> float:
        """When the next turn is due at the latest."""
        if self._events or self._endpoint.has_more:
            return now
        deadlines = (
            self.core.next_deadline(),
            self._containerizer.next_deadline(),
            self._endpoint.next_deadline(),
            self._watch.next_deadline(),
            self._persistence.next_deadline(),
            self._recorder.next_deadline(),
        )
        return min((when for when in deadlines if when is not None), default=math.inf)

    def _read(self, ready: dict[Any, int]) -> None:
        """Make events of everything available. Executors come first: messages from before an executor's end must count."""
        events = self._events
        if self._endpoint.has_more or self._endpoint.fileno() in ready:
            for heard in self._endpoint.drain():
                self._containerizer.heard(heard)
        if self._master.socket in ready:
            bad_before = self._master.bad_frames
            for epoch, messages in self._master.drain():
                for message in messages:
                    events.append(ev.FromMaster(epoch, message))
            if self._master.bad_frames != bad_before and bad_before == 0:
                log.warning("the master sent an invalid message: %s", self._master.last_bad)
        if self._master.link.socket in ready:
            try:
                for is_linked in self._master.link.changes():
                    self._is_linked = is_linked
                    if is_linked:
                        self._drops_logged = False
                        self._files.warn_if_out_of_reach(self._master.address.removeprefix("tcp://"))
                        events.append(ev.MasterConnected())
            except KeyRefused:
                self._is_linked = False
                if not self.core.expelled:
                    raise
        if self._others.fileno() in ready:
            for fd, _ in self._others.poll(0):
                self._readers[fd]()
        self._recorder.grew_to(self._master.received_bytes + self._endpoint.received_bytes)

    def _turn(self) -> None:
        """Handle what was read, run due timers, then write and send. Actions may make further events at once."""
        now = time.monotonic()
        self._endpoint.tick(now)
        self._containerizer.tick(now)
        self._handle_events(now)
        self._recorder.note(now, None)
        self._perform(self.core.tick(now))
        if not self._persistence.write(now, len(self.core.state.tasks)):
            self._send_signs_of_life()
            return
        if self._unwritten:
            self._to_master[:0] = self._unwritten
            self._unwritten.clear()
        for number in self._persistence.take_stored():
            # The sync was done in this thread: statuses that waited for it are sent in this turn. `Stored` leads to no new
            # records. Other events may, so they are left for the next turn, which comes at once.
            stored = ev.Stored(number)
            self._recorder.note(now, stored)
            self._perform(self.core.handle(stored, now))
        self._flush_to_master()
        for container_id in self._endpoint.flush():
            self._lines.log(
                container_id,
                logging.WARNING,
                f"the executor of {container_id} does not read, or is gone",
                now,
            )
        for container_id in self._to_forget:
            # Only after its tasks' ends are written: until then a restarted slave needs its checkpoint.
            self._containerizer.forget(container_id)
        self._to_forget.clear()
        self._housekeeping(now)
        is_there = self._is_linked and self.core.state.registered
        is_settled = is_there or bool(self.core.expelled)
        for line in self._watch.turn(is_settled, lambda: self._master.peer(self.core.turned_away)):
            log.warning("%s", line)

    def _flush_to_master(self) -> None:
        """Send the turn's messages to the master. They are dropped if it is away: everything that matters is sent again after
        the next registration."""
        messages, self._to_master = self._to_master, []
        if not self._is_linked:
            if messages:
                self._master.try_on()
            return
        for message in messages:
            self._master.send(message)
        try:
            dropped = self._master.flush()
        except MessageTooLarge as error:
            self._log(logging.ERROR, f"cannot be sent to the master: {printable(str(error))}")
            return
        if dropped and not self._drops_logged:
            self._drops_logged = True
            log.warning("the master does not read; messages that it misses will be repeated")

    def _send_signs_of_life(self) -> None:
        """Send only signs of life, and keep all other messages, as the journal cannot be written."""
        waiting, self._to_master = self._to_master, []
        for message in waiting:
            if isinstance(message, SIGNS_OF_LIFE):
                self._to_master.append(message)
            else:
                self._unwritten.append(message)
        self._flush_to_master()

    def _handle_events(self, now: float) -> None:
        core, perform, note = self.core, self._perform, self._recorder.note
        while self._events:
            # Cleared, not replaced: the containerizer appends to this list object.
            events = self._events[:]
            self._events.clear()
            for event in events:
                self._speaker = event.container_id if isinstance(event, ev.FromExecutor) else None
                note(now, event)
                try:
                    actions = core.handle(event, now)
                except Exception as error:  # marked: one peer's message ends no daemon
                    if not isinstance(event, ev.FromMaster | ev.FromExecutor):
                        raise
                    self._could_not_handle(event, error)
                    continue
                perform(actions)
            self._speaker = None

    def _log(self, level: int, line: str) -> None:
        """Log a line, within the limits for each executor and for all."""
        self._lines.log(self._speaker, level, line, time.monotonic())

    def _could_not_handle(self, event: ev.FromMaster | ev.FromExecutor, error: Exception) -> None:
        """A message has passed all checks, and handling it has failed. A message of the master is ignored; an executor that
        has sent it is ended."""
        kind = type(event.message)
        self._faults_logged[kind, type(error)] += 1
        if self._faults_logged[kind, type(error)] == 1:
            log.error("cannot handle a %s: %s", kind.__name__, printable(f"{type(error).__name__}: {error}"))
        self._recorder.failed(error, time.monotonic())
        if isinstance(event, ev.FromExecutor):
            fault = f"sent a {kind.__name__} that cannot be handled"
            self._events.append(ev.ExecutorFaulty(event.container_id, fault))

    def _perform(self, actions: list[act.Action]) -> None:
        for action in actions:
            kind = type(action)
            if kind is act.Append:
                self._persistence.records.append(action.record)  # type: ignore[attr-defined]
            elif kind is act.SendToMaster:
                self._to_master.append(action.message)  # type: ignore[attr-defined]
            elif kind is act.SendToExecutor:
                self._endpoint.send(action.container_id, action.message)  # type: ignore[attr-defined]
            else:
                self._performers[kind](action)

    def _metrics(self) -> bytes:
        """The answer to `GET /metrics`. Called in the file server's threads."""
        # Most slaves are never asked, and do without the three megabytes of prometheus_client.
        from offerd_slave.metrics import exposition

        return exposition(self._metric_sources, self._files.refused)

    # -- what became readable -------------------------------------------------------------------------------------------

    def _signalled(self) -> None:
        for number in self._wakeup.recv(64):
            if number == signal.SIGUSR1:
                self._events.extend(map(ev.ModeWished, self.workdir.take_wish()))
            elif number == signal.SIGUSR2:
                self._recorder.write("SIGUSR2", time.monotonic())
            elif number in (signal.SIGTERM, signal.SIGINT):
                if self.options.ephemeral:
                    self._events.append(ev.LeaveRequested())
                else:
                    log.info("stopping; %d tasks run on", len(self.core.state.tasks))
                    self._stop()

    def _record(self, action: act.Record) -> None:
        def written(made: Written) -> None:
            event = ev.RecordingWritten(action.ticket, str(made.path), made.is_whole, made.fault)
            self._events.append(event)

        if action.for_s > 0 or not self._recorder.abandon(action.ticket):
            why = "an operator asked for it"
            self._recorder.record(action.for_s, why, time.monotonic(), written, ticket=action.ticket)

    def crashed(self, error: Exception) -> None:
        """`run` has failed with an unforeseen error: write a recording of what led to it."""
        self._recorder.crashed(error, time.monotonic())

    # -- housekeeping and the end ---------------------------------------------------------------------------------------

    def _housekeeping(self, now: float) -> None:
        self._persistence.tidy(now, self.core)
        self._renew_files_secret(self._files.tick())
        self._lines.report_left_out(now)
        self._collector.tick(now, self._living, is_disk_full=self.core.state.is_disk_full)

    def _living(self) -> Living:
        """Running containers, with their running tasks and those whose end is not acknowledged yet."""
        living = {each.container_id: set(each.tasks) for each in self.core.state.containers.values()}
        for (_, task_id), stream in self.core.statuses.streams.items():
            tasks = living.get(stream.statuses[-1].container_id)
            if tasks is not None:
                tasks.add(task_id)
        return living

    def _renew_files_secret(self, renewed: FilesSecret | None) -> None:
        if renewed is not None:
            self._events.append(ev.FilesSecretRenewed(renewed))

    def _measure(self) -> None:
        self._containerizer.measure(time.monotonic())
        self._containerizer.verify()
        self._memory_watch.watch(memory.watched(self.core.state))
        if self._usual_share is not None and self._disk_watch.is_idle:
            self._disk_watch.look(
                ContainerToCount(each, str(self.workdir.sandbox(each.container_id)))
                for each in shares.shares(self.core.state, self._usual_share)
            )

    def _stop(self, why: str = "") -> None:
        self._running, self.fault = False, why

    def close(self) -> None:
        """Close sockets, end threads and unlock the work directory; an ephemeral slave also removes that."""
        self._recorder.close()
        signal.set_wakeup_fd(-1)
        self._master.socket.setsockopt(
            zmq.LINGER, 500
        )  # ms: enough to send the last messages, without waiting for a dead master
        self._master.close()
        self._endpoint.close()
        self._wakeup.close()
        self._wakeup_write.close()
        self._files.close()
        self._zygote.close()
        self._containerizer.close()
        self._collector.close()
        self._disk_watch.close()
        self._memory_watch.close()
        self._persistence.close()
        self._context.term()
        if self.options.ephemeral:
            try_to_remove(self.workdir.path)
        self.workdir.release()


def _noted_by_wakeup_fd(number: int, frame: object) -> None:
    """Does nothing: the loop reads the signal's number from the wake-up socket."""
