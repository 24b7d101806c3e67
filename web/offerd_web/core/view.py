"""The cluster as the gateway knows it: the replica, and sums over it that are kept up to date with each answer.

Times are in seconds of the gateway's own wall clock (Unix time). A master gives moments on its own clock; how far that is from
ours is measured with its first answer, and kept, so that a moment has the same time in each answer.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from offerd.cluster_events import ClusterEvent, EventReader
from offerd.core.replica import Replica
from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.protocol.change_messages import Changes, EndedTask, SlaveNow, TaskNow
from offerd.resources import Resources
from offerd.states import TaskState

TaskKey = tuple[FrameworkID, TaskID]
Amounts = Counter[str]
"""Resource name to amount, in thousandths or bytes. Ranges and sets (ports) count with a thousand for each member."""


class Delta(NamedTuple):
    """What one answer has changed."""

    is_reset: bool
    """Everything was sent again: what is not in this answer, or in one that follows at once, is not there any more."""
    slaves: set[SlaveID]
    frameworks: set[FrameworkID]
    tasks: list[TaskNow]
    """Open tasks that are new or have changed."""
    ended: list[EndedTask]
    gone: list[tuple[FrameworkID, TaskID, float]]
    """Tasks that are not open any more and whose ends are not known, with the moments of their launch."""
    events: list[ClusterEvent]
    """What has happened, if somebody wants to know it."""


class Tally:
    """Sums over a framework or a slave, or the whole cluster."""

    __slots__ = ("held", "offered", "tasks")

    def __init__(self) -> None:
        self.held: Amounts = Counter()
        """What tasks and executors hold."""
        self.offered: Amounts = Counter()
        """What is offered now."""
        self.tasks: Counter[TaskState] = Counter()
        """Open tasks by state."""

    @property
    def is_empty(self) -> bool:
        return not (self.held.total() or self.offered.total() or self.tasks.total())


class ClusterView:
    """Give each answer of the master to `apply`. Read the fields in between."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.clock_offset_s = 0.0
        """Our wall clock minus the master's clock."""
        self.heard_at = 0.0
        """When the last answer came; 0: none has."""
        self.version = 0
        """Rises with each answer that changes something."""
        self.everything = Tally()
        self.by_framework: dict[FrameworkID, Tally] = {}
        self.by_slave: dict[SlaveID, Tally] = {}
        self._master_id = ""

    def apply(self, changes: Changes, wall_now: float, reader: EventReader | None = None) -> Delta:
        """Take over an answer that came at this time. `reader`: one on our replica, if events are wanted, which cost much."""
        if changes.master.master_id != self._master_id:
            self._master_id = changes.master.master_id
            self.clock_offset_s = wall_now - changes.now
        self.heard_at = wall_now
        if changes.is_reset:
            self.everything = Tally()
            self.by_framework.clear()
            self.by_slave.clear()
        else:
            self._subtract_old(changes)
        if reader is None:
            self.replica.apply(changes)
            events: list[ClusterEvent] = []
        else:
            events = reader.read(changes)
        for task in changes.tasks:
            self._count_task(task, 1)
        for slave in changes.slaves:
            self._count_slave(slave, 1)
        delta = Delta(
            changes.is_reset,
            {slave.slave_id for slave in changes.slaves}
            | {info.slave_id for info in changes.slave_infos}
            | set(changes.forgotten_slaves),
            {framework.framework_id for framework in changes.frameworks}
            | {info.framework_id for info in changes.framework_infos}
            | set(changes.forgotten_frameworks),
            changes.tasks,
            changes.ended,
            changes.forgotten_tasks,
            events,
        )
        if any(delta):
            self.version += 1
        return delta

    def resume(self, origin: str, ended_after: int, clock_offset_s: float) -> None:
        """Before the first answer: ask only for later ends than these. `clock_offset_s` is that of the origin's master."""
        self.replica.resume(origin, ended_after)
        self._master_id = origin.partition("/")[0]
        self.clock_offset_s = clock_offset_s

    def wall(self, moment: float) -> float:
        """The time of a moment on the master's clock."""
        return round(moment + self.clock_offset_s, 3)

    def wall_or_none(self, moment: float | None) -> float | None:
        """The same; None remains None."""
        return None if moment is None else self.wall(moment)

    def total(self) -> Amounts:
        """What all registered slaves have."""
        amounts: Amounts = Counter()
        infos = self.replica.slave_infos
        for slave_id, slave in self.replica.slaves.items():
            if slave.state != "lost" and (info := infos.get(slave_id)) is not None:
                amounts.update(amounts_of(info.resources))
        return amounts

    def withheld(self) -> Amounts:
        """What is free on slaves that are not offered."""
        amounts: Amounts = Counter()
        for slave in self.replica.slaves.values():
            if slave.state in ("deactivated", "draining", "drained") or (
                slave.state == "active" and slave.is_disk_full
            ):
                amounts.update(amounts_of(slave.free))
        return amounts

    def ended_counts(self) -> dict[str, int]:
        """State to the number of tasks that have ended in it, of all that the master counts."""
        return {} if self.replica.master is None else self.replica.master.ended_counts

    # -- Sums -----------------------------------------------------------------------------------------------------------

    def _subtract_old(self, changes: Changes) -> None:
        """Of everything in the answer: what it was before."""
        tasks, slaves = self.replica.tasks, self.replica.slaves
        replaced = ((task.framework_id, task.task_id) for task in changes.tasks)
        keys = (*self.replica.closed_by(changes), *replaced)
        for key in dict.fromkeys(keys):
            if (task := tasks.get(key)) is not None:
                self._count_task(task, -1)
        for slave_id in dict.fromkeys(
            (*changes.forgotten_slaves, *(slave.slave_id for slave in changes.slaves))
        ):
            if (slave := slaves.get(slave_id)) is not None:
                self._count_slave(slave, -1)

    def _count_task(self, task: TaskNow, sign: int) -> None:
        tallies = (self.everything, self._of_framework(task.framework_id), self._of_slave(task.slave_id))
        # A task whose slave is lost holds nothing: there is nothing of it that anybody else could be given.
        amounts = () if task.state is TaskState.UNREACHABLE else amounts_of(task.resources).items()
        for tally in tallies:
            tally.tasks[task.state] += sign
            for name, amount in amounts:
                tally.held[name] += sign * amount
        self._drop_empty(task.framework_id, task.slave_id)

    def _count_slave(self, slave: SlaveNow, sign: int) -> None:
        on_slave = self._of_slave(slave.slave_id)
        for executor in slave.executors:
            for name, amount in amounts_of(executor.resources).items():
                for tally in (self.everything, self._of_framework(executor.framework_id), on_slave):
                    tally.held[name] += sign * amount
            self._drop_empty(executor.framework_id, None)
        for offer in slave.offers:
            for name, amount in amounts_of(offer.resources).items():
                for tally in (self.everything, self._of_framework(offer.framework_id), on_slave):
                    tally.offered[name] += sign * amount
            self._drop_empty(offer.framework_id, None)
        self._drop_empty(None, slave.slave_id)

    def _of_framework(self, framework_id: FrameworkID) -> Tally:
        found = self.by_framework.get(framework_id)
        if found is None:
            found = self.by_framework[framework_id] = Tally()
        return found

    def _of_slave(self, slave_id: SlaveID) -> Tally:
        found = self.by_slave.get(slave_id)
        if found is None:
            found = self.by_slave[slave_id] = Tally()
        return found

    def _drop_empty(self, framework_id: FrameworkID | None, slave_id: SlaveID | None) -> None:
        """Who holds nothing needs no sums; ids come and go for ever."""
        if framework_id is not None and self.by_framework.get(framework_id, FULL).is_empty:
            del self.by_framework[framework_id]
        if slave_id is not None and self.by_slave.get(slave_id, FULL).is_empty:
            del self.by_slave[slave_id]


NO_TALLY = Tally()
"""Of whoever has none. Never changed."""
FULL = Tally()
"""One that is not empty. Never changed."""
FULL.tasks[TaskState.RUNNING] = 1


def amounts_of(resources: Resources) -> dict[str, int]:
    """Amounts, as in `Amounts`."""
    if not resources.ranges and not resources.sets:
        return resources.scalars
    amounts = dict(resources.scalars)
    for name, spans in resources.ranges.items():
        amounts[name] = 1000 * sum(last - first + 1 for first, last in spans)
    for name, words in resources.sets.items():
        amounts[name] = 1000 * len(words)
    return amounts
