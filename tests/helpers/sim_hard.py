"""Harder times for a simulated cluster: absences of minutes under tasks of minutes, slaves drained and deactivated, schedulers
that die and come back under their framework's id or are followed by one that stood by, and masters replaced meanwhile.

What a framework knows of its tasks outlives its schedulers, as if it were in a database. A successor asks after what was
launched, again and again, as the documentation says.
"""

from __future__ import annotations

from typing import Any

from helpers.sim_cluster import Rules, World
from helpers.sim_scheduler import SchedulerNode
from helpers.sim_slave import DISK_BYTES, SlaveNode
from offerd import messages as m
from offerd import operator_messages as om
from offerd.core.scheduler_core import End, SchedulerCore
from offerd.ids import PeerID, TaskID
from offerd.messages import Reason, TaskState
from offerd_master.settings import MasterSettings

ABSENT_S, SCHEDULER_ABSENT_S = 300.0, 30.0
"""The longest absence of a scheduler, so that a new master does not take its framework for gone."""
ASK_AGAIN_S = 20.0
MOST_SCHEDULERS = 5
CALM_S = 90.0
"""How long lost slaves may take, after all faults are mended, to end the tasks that they must end."""
LATE_S = 150.0
"""How long after all tasks' ends messages may be repeated, and drivers remember ended tasks."""
OPERATOR = PeerID(b"operator")


def hard_rules() -> Rules:
    return Rules(
        settings=MasterSettings(adoption_grace_s=60.0, max_lost_slaves=2),
        durations_s=(0.5, 20.0, 90.0, 900.0),
    )


class HardScheduler(SchedulerNode):
    """A scheduler that dies. Its successors are the same node with another core."""

    def __init__(self, world: World, number: int, tasks: int) -> None:
        super().__init__(world, number, tasks)
        self.up = True
        self.life = 1
        self.heard_in: dict[TaskID, tuple[str, int]] = {}
        self.contradictions: list[str] = []
        """Ends that differ between a successor and the scheduler before it."""
        self.core = SchedulerCore(self.core.framework, scheduler_id=f"{self.name}-1")

    def start(self) -> None:
        self._perform(self.core.start(self.world.now))
        self._turn(self.life)

    def _turn(self, life: int) -> None:
        if self.up and life == self.life:
            self._perform(self.core.tick(self.world.now))
            self.world.at(max(0.05, self.core.next_deadline() - self.world.now), lambda: self._turn(life))

    def receive(self, epoch: int, message: m.Message) -> None:
        if self.up:
            super().receive(epoch, message)

    def connected(self) -> None:
        if self.up:
            super().connected()

    def die(self, *, stands_by: bool = False) -> None:
        """Die; another scheduler starts a little later, and takes over or stands by."""
        if not self.up or not self.core.framework_id:
            return
        self.up = False
        self.link.break_()
        self.world.at(self.world.random.uniform(0.1, SCHEDULER_ABSENT_S), lambda: self.succeed(stands_by))

    def succeed(self, stands_by: bool) -> None:
        """Start the next scheduler, if it has not started."""
        if self.up:
            return
        self.up = True
        self.life += 1
        self.core = SchedulerCore(
            self.core.framework, scheduler_id=f"{self.name}-{self.life}", stands_by=stands_by
        )
        self.start()
        self.ask(self.life)

    def ask(self, life: int) -> None:
        """Reconcile the tasks that were launched and have not ended, as far as the framework knows."""
        if not self.up or life != self.life:
            return
        waiting = {task.task_id for task in self.waiting}
        open_ids = sorted(set(self.tasks) - waiting - set(self.ended))
        if self.core.is_registered and open_ids:
            self._perform(self.core.reconcile_tasks(open_ids, self.world.now))
        self.world.at(ASK_AGAIN_S, lambda: self.ask(life))

    def _perform(self, actions: list[Any]) -> None:
        if any(
            isinstance(action, End) and action.reason == Reason.FRAMEWORK_FAILED_OVER for action in actions
        ):
            self.die(stands_by=True)
            return
        super()._perform(actions)

    def heard_end(self, status: m.TaskStatus) -> None:
        """A driver brings one end. What a successor hears of a task that has ended for another one goes no further, as with
        every framework that remembers its tasks; that it says the same is another matter.
        """
        here, before = (self.name, self.life), self.ended.get(status.task_id)
        if before and self.heard_in[status.task_id] != here:
            if before[0].state is not status.state:
                self.contradictions.append(f"{status.task_id}: {before[0].reason}, then {status}")
            return
        self.heard_in[status.task_id] = here
        super().heard_end(status)


class HardWorld(World):
    """A world of such schedulers, with long faults."""

    def __init__(self, seed: int, slaves: int, schedulers: int, tasks: int, **more: Any) -> None:
        super().__init__(seed, slaves, 0, tasks, hard_rules(), checks_often=False, **more)
        self.mortals: list[HardScheduler] = []
        for number in range(schedulers):
            self._add(HardScheduler(self, number, tasks))

    def _add(self, node: HardScheduler) -> None:
        self.mortals.append(node)
        self.schedulers.append(node)
        node.start()

    def hard_fault(self, *, masters: bool = True, schedulers: bool = True) -> None:
        """Cause one fault, perhaps for minutes, or an operator's action. `masters`, `schedulers`: whether these die, too."""
        faults = {self._absent: 20, self._silent: 20, self._drain: 12, self._deactivate: 8}
        if schedulers:
            faults |= {self._scheduler_dies: 15, self._stand_by: 5}
        if masters:
            faults |= {self.depose: 10, self.master.restart: 6, self.worse_fault: 8}
        (fault,) = self.random.choices(list(faults), list(faults.values()))
        fault()

    def _absent(self) -> None:
        slave = self.random.choice(self.slaves)
        slave.crash(reboots=self.random.random() < 0.3, longest_s=ABSENT_S)

    def _silent(self) -> None:
        """Cut one direction of a connection, or both."""
        link = self.random.choice(self.slaves).link
        seconds = self.random.uniform(1.0, ABSENT_S)
        for upwards in self.random.choice([(True,), (False,), (True, False)]):
            link.cut(upwards, seconds)

    def _scheduler_dies(self) -> None:
        node = self.random.choice(self.mortals)
        node.die(stands_by=self.random.random() < 0.5)

    def _stand_by(self) -> None:
        """Another scheduler for a framework; both know the same of its tasks."""
        node = self.random.choice(self.mortals)
        if node.core.framework_id and len(self.schedulers) < MOST_SCHEDULERS:
            other = HardScheduler(self, len(self.schedulers), 0)
            other.waiting, other.tasks, other.ended = node.waiting, node.tasks, node.ended
            other.heard_in, other.contradictions = node.heard_in, node.contradictions
            other.core = SchedulerCore(node.core.framework, scheduler_id=f"{other.name}-1", stands_by=True)
            self._add(other)
            other.ask(other.life)

    def _drain(self) -> None:
        slave = self.random.choice(self.slaves)
        self._wish(slave, "draining", self.random.choice([None, 0.0, 5.0, 20.0]))
        self._activate_later(slave)

    def _deactivate(self) -> None:
        slave = self.random.choice(self.slaves)
        self._wish(slave, "deactivated")
        self._activate_later(slave)

    def _activate_later(self, slave: SlaveNode) -> None:
        """Repeat the operator's request until the slave is active."""

        def activate() -> None:
            self._wish(slave, "active")
            if slave.saved_mode != "active":
                self._activate_later(slave)

        self.at(self.random.uniform(5.0, 120.0), activate)

    def _wish(self, slave: SlaveNode, mode: str, deadline_s: float | None = None) -> None:
        if slave.slave_id:
            self.master.receive(OPERATOR, om.ChangeSlaveMode(slave.slave_id, mode, deadline_s=deadline_s))

    # -- the end --------------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        self.at(seconds, lambda: None)
        self.run(lambda: self.now >= until, limit_s=seconds + 1.0)

    def mend(self) -> None:
        """End all faults: everything runs and is connected."""
        for node in self.slaves:
            node.link.mend()
            node.free_bytes = DISK_BYTES
            if not node.up:
                node.start()
        for scheduler in self.mortals:
            scheduler.link.mend()
            scheduler.succeed(stands_by=True)

    def contradictions(self) -> list[str]:
        return sorted({text for node in self.mortals for text in node.contradictions})

    def ends(self) -> list[m.TaskStatus]:
        """The ends of tasks that frameworks know."""
        return [status for node in self.mortals for statuses in node.ended.values() for status in statuses]

    def lost_and_running(self) -> list[str]:
        """Tasks that run though they were reported to their scheduler as lost."""
        lost = {status.task_id for status in self.ends() if status.state is TaskState.LOST}
        return sorted(
            f"{task_id} on {node.name}"
            for node in self.slaves
            for executor in node.executors.values()
            if executor.alive
            for task_id in executor.running
            if task_id in lost
        )
