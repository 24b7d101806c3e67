"""What has happened in a cluster, in events: made from the answers that a follower of a master gets.

An answer says how things are now. What is new in it is an event: a slave that has registered, a task that runs. Each event has
the time at which it happened, so those of a first answer are the past as far as the master remembers it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import msgspec

from offerd.core.replica import Replica
from offerd.ids import FrameworkID, SlaveID
from offerd.protocol.change_messages import Changes, EndedTask, FrameworkNow, SlaveNow, TaskNow
from offerd.states import TaskState


class ClusterEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event. The names are empty where the event is of something else."""

    ago_s: float
    """Seconds before the answer that it comes from."""
    event: str
    """master-leads | ends-missed | slave-registered | slave-lost | slave-active | slave-deactivated | slave-draining |
    slave-drained | slave-silent | slave-heard | slave-disk-full | slave-disk-free | slave-forgotten | framework-registered |
    framework-active | framework-disconnected | framework-ended | task-launched | task-running | task-unreachable |
    task-being-killed | task-ended.
    """
    slave_id: str = ""
    hostname: str = ""
    framework_id: str = ""
    framework_name: str = ""
    task_id: str = ""
    task_name: str = ""
    state: str = ""
    """The terminal state, of `task-ended`."""
    reason: str = ""
    message: str = ""
    exit_status: int | None = None
    master_id: str = ""
    count: int = 0
    """How many ends of tasks are missing, of `ends-missed`."""


class EventReader:
    """Turns a master's answers into events. Give it each answer; its `replica` is up to date with them.

    What was known before a reset is not repeated: another master, or the same one after a long silence of ours, sends
    everything once more, but its frameworks and tasks are the same. Slaves have registered again with another master.
    """

    def __init__(self, replica: Replica | None = None) -> None:
        self.replica = Replica() if replica is None else replica
        self._old = Replica()
        """What was known before the last reset, until it is seen again."""
        self._held: list[ClusterEvent] | None = None
        """Events of a first answer that has more to come."""
        self._held_at = 0.0
        self._last_end = -inf  # its moment, on the clock of the last answer's master
        self._known_until = -inf  # ends up to this moment were read before the last reset

    def read(self, changes: Changes) -> list[ClusterEvent]:
        """What is new in this answer, the oldest first. Nothing, while a first answer in several parts is not complete."""
        before = self.replica
        if changes.is_reset and before.master is not None:
            before = self._set_aside(changes)
        found = list(self._compare(before, changes))
        self.replica.apply(changes)
        if changes.is_reset or self._held is not None:
            # The names that belong to the first ids come with the last answers, and the past is in no order before.
            self._held = self._later(self._held or [], changes.now) + found
            if changes.has_more:
                return []
            found, self._held = [self._named(event) for event in self._held], None
        return sorted(found, key=lambda event: -event.ago_s)

    def _set_aside(self, changes: Changes) -> Replica:
        """What remains of what was known, in a reset."""
        old, known, remains = self._old, self.replica, Replica()
        remains.master = known.master
        old.frameworks.update(known.frameworks)
        old.tasks.update(known.tasks)
        if known.master is not None and known.master.master_id == changes.master.master_id:
            old.slaves.update(known.slaves)
            self._known_until = self._last_end
        else:
            old.slaves.clear()
            self._known_until = self._last_end = -inf
        self._held_at = changes.now  # its clock may be another
        return remains

    def _later(self, held: list[ClusterEvent], now: float) -> list[ClusterEvent]:
        """Events of earlier answers, with their ages at this moment."""
        passed_s, self._held_at = now - self._held_at, now
        return [msgspec.structs.replace(event, ago_s=event.ago_s + passed_s) for event in held]

    def _named(self, event: ClusterEvent) -> ClusterEvent:
        slave = self.replica.slave_infos.get(SlaveID(event.slave_id))
        framework = self.replica.framework_infos.get(FrameworkID(event.framework_id))
        return msgspec.structs.replace(
            event,
            hostname=event.hostname if slave is None else slave.hostname,
            framework_name=event.framework_name if framework is None else framework.name,
        )

    def _compare(self, before: Replica, changes: Changes) -> Iterator[ClusterEvent]:
        yield from _Comparison(before, self._old, self._new_ends(changes), changes).events()
        for slave in changes.slaves:
            self._old.slaves.pop(slave.slave_id, None)
        for framework in changes.frameworks:
            self._old.frameworks.pop(framework.framework_id, None)
        known: list[TaskNow | EndedTask] = [*changes.tasks, *changes.ended]
        for task in known:
            self._old.tasks.pop((task.framework_id, task.task_id), None)

    def _new_ends(self, changes: Changes) -> list[EndedTask]:
        """The ends that were not read before a reset. A master sends them in the order of their moments."""
        ended = [task for task in changes.ended if task.ended_at > self._known_until]
        if ended:
            self._last_end = ended[-1].ended_at
        return ended


class _Comparison:
    """One answer beside what was known before."""

    def __init__(self, before: Replica, old: Replica, ended: list[EndedTask], changes: Changes) -> None:
        """`old` is from before the last reset. `ended`: the ends that are new."""
        self._before = before
        self._old = old
        self._ended_now = ended
        self._changes = changes
        self._now = changes.now
        self._slave_infos = {info.slave_id: info for info in changes.slave_infos}
        self._framework_infos = {info.framework_id: info for info in changes.framework_infos}

    def events(self) -> Iterator[ClusterEvent]:
        changes, known = self._changes, self._before.master
        if known is not None and known.master_id != changes.master.master_id:
            yield ClusterEvent(
                self._now - changes.master.started_at, "master-leads", master_id=changes.master.master_id
            )
        if changes.ended_missed:
            yield ClusterEvent(0.0, "ends-missed", count=changes.ended_missed)
        for slave in changes.slaves:
            yield from self._slave(slave)
        for slave_id in changes.forgotten_slaves:
            yield self._of_slave(0.0, "slave-forgotten", slave_id)
        for framework in changes.frameworks:
            yield from self._framework(framework)
        for record in self._ended_now:
            yield from self._ended(record)
        for task in changes.tasks:
            yield from self._task(task)

    def _slave(self, slave: SlaveNow) -> Iterator[ClusterEvent]:
        slave_id = slave.slave_id
        before = self._before.slaves.get(slave_id) or self._old.slaves.get(slave_id)
        if before is None and slave.state != "lost":
            yield self._of_slave(self._now - slave.since, "slave-registered", slave_id)
        if slave.state == "lost":
            if before is None or before.state != "lost":
                yield self._of_slave(self._now - slave.since, "slave-lost", slave_id)
            return
        if before is not None and before.state == "lost":
            yield self._of_slave(self._now - slave.since, "slave-registered", slave_id)
        elif before is not None and before.is_connected != slave.is_connected:
            yield self._of_slave(0.0, "slave-heard" if slave.is_connected else "slave-silent", slave_id)
        usual = "active" if before is None or before.state == "lost" else before.state
        if slave.state != usual:
            yield self._of_slave(0.0, f"slave-{slave.state}", slave_id)
        if slave.is_disk_full != (before is not None and before.is_disk_full):
            yield self._of_slave(
                0.0, "slave-disk-full" if slave.is_disk_full else "slave-disk-free", slave_id
            )

    def _framework(self, framework: FrameworkNow) -> Iterator[ClusterEvent]:
        framework_id = framework.framework_id
        before = self._before.frameworks.get(framework_id) or self._old.frameworks.get(framework_id)
        if before is None:
            yield self._of_framework(self._now - framework.since, "framework-registered", framework_id)
        was = "active" if before is None else before.state
        if framework.state != was:
            ago_s = 0.0 if framework.ended_at is None else self._now - framework.ended_at
            yield self._of_framework(ago_s, f"framework-{framework.state}", framework_id)

    def _task(self, task: TaskNow) -> Iterator[ClusterEvent]:
        before = self._known_task(task)
        if before is None:
            yield self._of_task(self._now - task.launched_at, "task-launched", task)
        ran_before = before is not None and before.running_since is not None
        if task.running_since is not None and not ran_before:
            yield self._of_task(self._now - task.running_since, "task-running", task, message=task.message)
        was = TaskState.RUNNING if before is None else before.state
        if task.state is TaskState.UNREACHABLE and was is not TaskState.UNREACHABLE:
            yield self._of_task(0.0, "task-unreachable", task)
        elif task.state is TaskState.RUNNING and was is TaskState.UNREACHABLE:
            yield self._of_task(0.0, "task-running", task, message=task.message)
        if task.is_being_killed and not (before is not None and before.is_being_killed):
            yield self._of_task(0.0, "task-being-killed", task)

    def _ended(self, task: EndedTask) -> Iterator[ClusterEvent]:
        before = self._known_task(task)
        if before is None:
            yield self._of_task(self._now - task.launched_at, "task-launched", task)
        if task.running_since is not None and (before is None or before.running_since is None):
            yield self._of_task(self._now - task.running_since, "task-running", task)
        yield self._of_task(
            self._now - task.ended_at,
            "task-ended",
            task,
            state=task.state.value,
            reason=task.reason,
            message=task.message,
            exit_status=task.exit_status,
        )

    def _known_task(self, task: TaskNow | EndedTask) -> TaskNow | None:
        """The same task as it was known before; None: it was not, or its id has been used again since."""
        key = task.framework_id, task.task_id
        before = self._before.tasks.get(key)
        if before is None:
            return self._old.tasks.get(key)  # on another master's clock
        return before if before.launched_at == task.launched_at else None

    def _of_slave(self, ago_s: float, event: str, slave_id: SlaveID) -> ClusterEvent:
        return ClusterEvent(max(ago_s, 0.0), event, slave_id=slave_id, hostname=self._hostname(slave_id))

    def _of_framework(self, ago_s: float, event: str, framework_id: FrameworkID) -> ClusterEvent:
        name = self._framework_name(framework_id)
        return ClusterEvent(max(ago_s, 0.0), event, framework_id=framework_id, framework_name=name)

    def _of_task(self, ago_s: float, event: str, task: TaskNow | EndedTask, **more: Any) -> ClusterEvent:
        return ClusterEvent(
            max(ago_s, 0.0),
            event,
            slave_id=task.slave_id,
            hostname=self._hostname(task.slave_id),
            framework_id=task.framework_id,
            framework_name=self._framework_name(task.framework_id),
            task_id=task.task_id,
            task_name=task.name,
            **more,
        )

    def _hostname(self, slave_id: SlaveID) -> str:
        info = self._slave_infos.get(slave_id) or self._before.slave_infos.get(slave_id)
        return "" if info is None else info.hostname

    def _framework_name(self, framework_id: FrameworkID) -> str:
        info = self._framework_infos.get(framework_id) or self._before.framework_infos.get(framework_id)
        return "" if info is None else info.name
