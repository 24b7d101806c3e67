"""A slave's core with a master, executors and a disk made of lists, and a clock that is a number."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from offerd import messages as m
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.resources import Resources
from offerd.wire import codec
from offerd_isolation.base import Limitation
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.core.recovery import Recovered, RecoveredContainer
from offerd_slave.core.slave import SlaveCore
from offerd_slave.records import ContainerCheckpoint, ExitRecord, JournalRecord
from offerd_slave.settings import SlaveSettings

COMMAND = m.ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
FRAMEWORK = m.FrameworkInfo("tests", FrameworkID("F-1"), executors=[COMMAND])


def task(name: str = "t1", cpus: float = 1, limit_s: float | None = 30.0, **more: Any) -> m.TaskInfo:
    return m.TaskInfo(
        TaskID(name), Resources.of(cpus=cpus, mem="64M"), COMMAND.executor_id, time_limit_s=limit_s, **more
    )


class SimulatedCrash(Exception):
    """kill -9, in the middle of a turn."""


class Bench:
    """Drives one `SlaveCore`. Every message passes through the codec, so that what is tested could travel."""

    def __init__(
        self,
        *,
        recovered: Recovered | None = None,
        settings: SlaveSettings | None = None,
        now: float = 1000.0,
    ) -> None:
        info = m.SlaveInfo("host", Resources.of(cpus=4, mem="4G", ports=[(31000, 31009)]))
        self.now = now
        self.sync_at_once = True
        self.disk: list[JournalRecord] = []
        self.unsynced: list[int] = []
        self._appends: list[act.Append] = []
        self._sends: list[act.SendToMaster | act.SendToExecutor] = []
        self._forgets: list[act.ForgetContainer] = []
        self.checkpoints: dict[ContainerID, ContainerCheckpoint] = {}
        self.slave_id = SlaveID("")
        self.mode = "active"
        self.saved = act.SaveSlave(self.slave_id, 0)
        self.sent: list[m.Message] = []
        self.to_executors: list[tuple[ContainerID, m.Message]] = []
        self.others: list[act.Action] = []
        self.exited = False
        self.hits: dict[
            TaskID, Limitation
        ] = {}  # limits that failed tasks have hit; an executor has an empty task id
        self.inspects_at_once = True
        self.crash_after: int | None = None  # number of actions after which SimulatedCrash is raised
        self.core = SlaveCore(
            settings or SlaveSettings(sync_pause_per_task_s=0.0, confirm_pause_s=0.0),
            info,
            f"run{int(now)}",
            recovered or Recovered(),
            self.now,
        )
        self.turn()

    # -- driving --------------------------------------------------------------------------------------------------------

    def event(self, event: ev.Event) -> None:
        self._perform(self.core.handle(event, self.now))
        self.turn()

    def turn(self, after_s: float = 0.0) -> None:
        self.now += after_s
        self._perform(self.core.tick(self.now))
        self._end_turn()

    def synced(self) -> None:
        """The sync is done."""
        self.event(ev.Stored(self.unsynced.pop(0)))

    def from_master(self, message: m.Message, epoch: int = 1) -> None:
        for frame in codec.frames([message], epoch):
            _, (decoded,) = codec.to_slave.decode(frame)
            self.event(ev.FromMaster(epoch, decoded))

    def as_it_is(self, container_id: ContainerID, message: m.Message) -> None:
        """A message that has not passed the codec."""
        self.event(ev.FromExecutor(container_id, message))

    def from_executor(self, container_id: ContainerID, message: m.Message) -> None:
        for frame in codec.frames([message]):
            _, (decoded,) = codec.from_executor.decode(frame)
            self.event(ev.FromExecutor(container_id, decoded))

    def _may_crash(self) -> None:
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise SimulatedCrash

    def _perform(self, actions: list[act.Action]) -> None:
        """As the daemon does: what concerns the host at once, the rest when the turn ends."""
        asked: list[act.InspectFailure] = []
        for action in actions:
            if isinstance(action, act.Append):
                self._appends.append(action)
                continue
            if isinstance(action, act.SendToMaster | act.SendToExecutor):
                self._sends.append(action)
                continue
            if isinstance(action, act.ForgetContainer):
                self._forgets.append(action)
                continue
            self._may_crash()
            if isinstance(action, act.Sync):
                self.unsynced.append(action.number)
            elif isinstance(action, act.SaveSlave):
                self.saved = action
                self.slave_id, self.mode = action.slave_id, action.mode
            elif isinstance(action, act.Exit):
                self.exited = True
            elif not isinstance(action, act.Log | act.LookAtDisk | act.MeasureUsage):
                if isinstance(action, act.LaunchContainer):
                    self.checkpoints[action.container_id] = ContainerCheckpoint(
                        action.container_id, action.framework, action.executor, "token", "noop"
                    )
                self.others.append(action)
                if isinstance(action, act.InspectFailure) and self.inspects_at_once:
                    asked.append(action)
        for inspect in asked:
            self._perform(self.core.handle(self.inspected(inspect), self.now))
        self.check()

    def inspected(self, asked: act.InspectFailure) -> ev.FailureInspected:
        """The module's answer; each hit is reported once."""
        hit = self.hits.pop(asked.task_id, None)
        return ev.FailureInspected(asked.container_id, asked.task_id, hit)

    def _end_turn(self) -> None:
        """One write of all records, syncs, all messages, and then the removal of checkpoints."""
        self._may_crash()
        self.disk += [action.record for action in self._appends]
        self._appends.clear()
        while self.sync_at_once and self.unsynced:
            self._perform(self.core.handle(ev.Stored(self.unsynced.pop(0)), self.now))
            assert not self._appends, "Stored leads to no new records"
        sends, self._sends = self._sends, []
        for send in sends:
            self._may_crash()
            if isinstance(send, act.SendToMaster):
                self.sent += codec.to_master.decode(next(codec.frames([send.message])))[1]
            else:
                decoded = codec.to_executor.decode(next(codec.frames([send.message])))[1][0]
                self.to_executors.append((send.container_id, decoded))
        forgets, self._forgets = self._forgets, []
        for forget in forgets:
            self._may_crash()
            self.checkpoints.pop(forget.container_id, None)
            self.others.append(forget)

    # -- shortcuts ------------------------------------------------------------------------------------------------------

    def register(self, epoch: int = 1) -> None:
        self.from_master(m.SlaveRegistered(SlaveID("S-1"), "master"), epoch)

    def run(self, *tasks: m.TaskInfo) -> None:
        self.from_master(m.RunTasks(FRAMEWORK, COMMAND, list(tasks)))

    def register_executor(
        self, *task_ids: str, unacknowledged: tuple[m.TaskStatus, ...] = (), places_tasks: bool = False
    ) -> ContainerID:
        """The only container's executor registers."""
        container_id = self.container_id
        ids = [TaskID(name) for name in task_ids]
        registration = m.RegisterExecutor(
            container_id, "token", list(unacknowledged), ids, places_tasks=places_tasks
        )
        self.from_executor(container_id, registration)
        return container_id

    def update(self, name: str, state: m.TaskState, sequence: int, number: int = 0, **more: Any) -> None:
        status = m.TaskStatus(TaskID(name), state, sequence, **more)
        self.from_executor(self.container_id, m.ExecutorUpdate(number or sequence, status))

    def acknowledge(self, name: str, sequence: int) -> None:
        self.from_master(m.Acknowledge(FRAMEWORK.framework_id, SlaveID("S-1"), [(TaskID(name), sequence)]))

    @property
    def container_id(self) -> ContainerID:
        (container_id,) = self.core.state.containers
        return container_id

    def running(self, *tasks: m.TaskInfo, places_tasks: bool = False) -> ContainerID:
        """Registered, and these tasks run."""
        self.register()
        self.run(*tasks)
        container_id = self.register_executor(places_tasks=places_tasks)
        for number, info in enumerate(tasks, 1):
            self.update(info.task_id, m.TaskState.RUNNING, 1, number)
        self.clear()
        return container_id

    def clear(self) -> None:
        self.sent.clear()
        self.to_executors.clear()
        self.others.clear()

    def statuses(self) -> list[tuple[str, m.TaskState, str]]:
        """`(task, state, reason)` of every status sent to the master since `clear`."""
        return [
            (s.status.task_id, s.status.state, s.status.reason)
            for s in self.sent
            if isinstance(s, m.StatusUpdate)
        ]

    def sent_to_executors(self, kind: type[m.Message]) -> list[Any]:
        return [message for _, message in self.to_executors if isinstance(message, kind)]

    def asked_for(self, kind: type[act.Action]) -> list[Any]:
        return [action for action in self.others if isinstance(action, kind)]

    def crash(
        self,
        *,
        shims_alive: bool = True,
        exit_record: ExitRecord | None = None,
        ended: Set[ContainerID] = frozenset(),
        is_damaged: bool = False,
        **more: Any,
    ) -> Bench:
        """kill -9 and a new start on the same work directory. The shims of `ended` have written `exit_record`."""
        containers = []
        for checkpoint in self.checkpoints.values():
            alive = shims_alive and checkpoint.container_id not in ended
            containers.append(RecoveredContainer(checkpoint, alive, None if alive else exit_record))
        recovered = Recovered(
            self.slave_id,
            self.core.state.epoch,
            False,
            containers,
            list(self.disk),
            mode=self.mode,
            drain_end_at=self.saved.drain_end_at,
            drain_grace_s=self.saved.drain_grace_s,
            is_damaged=is_damaged,
        )
        again = Bench(recovered=recovered, now=self.now + 1, **more)
        again.disk = list(self.disk)
        again.checkpoints = dict(self.checkpoints)
        again.slave_id, again.mode, again.saved = self.slave_id, self.mode, self.saved
        return again

    # -- what always holds ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check that the counts are the sums of what tasks hold, and stay below the caps."""
        state = self.core.state
        used: dict[str, int] = {}
        long_used: dict[str, int] = {}
        for held in state.tasks.values():
            for name, amount in held.info.resources.quantities().items():
                used[name] = used.get(name, 0) + amount
                if held.long:
                    long_used[name] = long_used.get(name, 0) + amount
        with_executors = dict(used)
        for container in state.containers.values():
            for name, amount in container.executor.resources.quantities().items():
                with_executors[name] = with_executors.get(name, 0) + amount
        assert with_executors == {name: amount for name, amount in state.used.items() if amount}
        assert long_used == {name: amount for name, amount in state.long_used.items() if amount}
        assert all(amount <= state.total[name] for name, amount in used.items())
        assert all(amount <= state.long_total[name] for name, amount in long_used.items())
        in_containers = {
            (c.framework_id, name) for c in state.containers.values() for name in (*c.queue, *c.tasks)
        }
        assert in_containers == set(state.tasks)
