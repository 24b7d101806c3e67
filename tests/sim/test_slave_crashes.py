"""A slave that is killed between any two actions: every task that it was given has one end, and the true one.

One seed drives everything: what the master orders, how executors behave, when the slave dies, and what of its last turn has
reached the disk. The executor follows the SDK's driver: it keeps statuses until the slave has stored them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from helpers.slave_bench import FRAMEWORK, Bench, SimulatedCrash, task
from offerd import messages as m
from offerd.ids import ContainerID, SlaveID, TaskID
from offerd.messages import TaskState
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.records import ExitRecord
from offerd_slave.settings import SlaveSettings


@dataclass
class FakeExecutor:
    """The executor of one container."""

    container_id: ContainerID
    connected: bool = False
    alive: bool = True
    number: int = 0
    sequences: dict[TaskID, int] = field(default_factory=dict)
    running: set[TaskID] = field(default_factory=set)
    unstored: list[m.ExecutorUpdate] = field(default_factory=list)

    def report(self, task_id: TaskID, state: TaskState) -> m.ExecutorUpdate:
        self.number += 1
        self.sequences[task_id] = self.sequences.get(task_id, 0) + 1
        if state.terminal:
            self.running.discard(task_id)
        update = m.ExecutorUpdate(self.number, m.TaskStatus(task_id, state, self.sequences[task_id]))
        self.unstored.append(update)
        return update

    def registration(self) -> m.RegisterExecutor:
        statuses = [update.status for update in self.unstored]
        return m.RegisterExecutor(self.container_id, "token", statuses, sorted(self.running))


class World:
    """The slave under test and everything around it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # Half of them have a module with limits, which is asked about each failure and answers sooner or later.
        self.settings = SlaveSettings(
            limits_containers=seed % 2 == 1, sync_pause_per_task_s=0.0, confirm_pause_s=0.0
        )
        self.bench = Bench(settings=self.settings)
        self.bench.sync_at_once = self.bench.inspects_at_once = False
        self.inspecting: list[act.InspectFailure] = []
        self.executors: dict[ContainerID, FakeExecutor] = {}
        self.asked: set[TaskID] = set()  # sent to the slave
        self.delivered: set[TaskID] = set()  # reached an executor
        self.ended_by_executor: dict[TaskID, TaskState] = {}
        self.terminal: dict[
            TaskID, list[TaskState]
        ] = {}  # distinct terminal statuses that the scheduler would see
        self.heard: set[tuple[TaskID, int]] = set()
        self.forgotten: set[TaskID] = (
            set()
        )  # a master would call them lost: the slave has registered without them
        self.bench.register()

    # -- what the world does with the slave's actions --------------------------------------------------------------------

    def settle(self) -> None:
        """Read what the slave has sent to all sides; acknowledge as a scheduler does."""
        bench = self.bench
        for message in bench.sent:
            if isinstance(message, m.StatusUpdate):
                self._hear(message.status)
            elif isinstance(message, m.RegisterSlave):
                listed = {running.task_id for running in message.tasks}
                self.forgotten |= self.asked - listed - set(self.terminal)
        for container_id, message in bench.to_executors:
            self._deliver(container_id, message)
        for action in bench.others:
            if isinstance(action, act.LaunchContainer):
                self.executors[action.container_id] = FakeExecutor(action.container_id)
            elif isinstance(action, act.InspectFailure):
                self.inspecting.append(action)
        bench.clear()

    def _hear(self, status: m.TaskStatus) -> None:
        key = (status.task_id, status.sequence)
        if key in self.heard:
            return
        self.heard.add(key)
        # nothing is damaged here: records written in the right order are never missing
        assert status.reason != m.Reason.CHECKPOINT_DAMAGED
        assert status.reason != m.Reason.SLAVE_RESTARTED or status.task_id not in self.delivered
        if status.state.terminal:
            self.terminal.setdefault(status.task_id, []).append(status.state)

    def _deliver(self, container_id: ContainerID, message: m.Message) -> None:
        executor = self.executors[container_id]
        if not executor.alive:
            return
        if isinstance(message, m.LaunchTask):
            self.delivered.add(message.task.task_id)
            executor.running.add(message.task.task_id)
        elif isinstance(message, m.UpdatesStored):
            executor.unstored = [u for u in executor.unstored if u.number > message.number]
        elif isinstance(message, m.KillTask) and message.task_id in executor.running:
            self._executor_says(executor, message.task_id, TaskState.KILLED)

    def _executor_says(self, executor: FakeExecutor, task_id: TaskID, state: TaskState) -> None:
        update = executor.report(task_id, state)
        if state.terminal:
            self.ended_by_executor[task_id] = state
        if executor.connected:
            self.bench.from_executor(executor.container_id, update)

    # -- what may happen next --------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One event; now and then the slave dies in the middle of it."""
        if self.random.random() < 0.05:
            self.bench.crash_after = self.random.randrange(8)
        try:
            self._step()
        except SimulatedCrash:
            self._crash()
        self.bench.crash_after = None
        self.settle()

    def _step(self) -> None:
        choice = self.random.random()
        if choice < 0.25:
            name = TaskID(f"t{len(self.asked)}")
            self.asked.add(name)
            limit_s = self.random.choice([1.0, 30.0, None])
            self.bench.run(task(name, cpus=self.random.choice([0.1, 0.3]), limit_s=limit_s))
        elif choice < 0.45:
            self._executor_connects()
        elif choice < 0.65:
            self._executor_works()
        elif choice < 0.70 and self.inspecting:
            self._answer_inspection()
        elif choice < 0.75 and self.bench.unsynced:
            self.bench.synced()
        elif choice < 0.85:
            self.bench.turn(self.random.uniform(0, 2))
            self.bench.from_master(m.Ping())
        elif choice < 0.92:
            self._acknowledge_some()
        elif choice < 0.98:
            self._crash()
        else:
            self._container_ends()

    def _executor_connects(self) -> None:
        for executor in self.executors.values():
            if (
                executor.alive
                and not executor.connected
                and executor.container_id in self.bench.core.state.containers
            ):
                executor.connected = True
                self.bench.from_executor(executor.container_id, executor.registration())
                for update in list(executor.unstored):
                    self.bench.from_executor(executor.container_id, update)
                return

    def _answer_inspection(self) -> None:
        self.bench.event(self.bench.inspected(self.inspecting.pop(0)))

    def _executor_works(self) -> None:
        busy = [e for e in self.executors.values() if e.alive and e.running]
        if busy:
            executor = self.random.choice(busy)
            task_id = self.random.choice(sorted(executor.running))
            state = self.random.choice([TaskState.RUNNING, TaskState.FINISHED, TaskState.FAILED])
            self._executor_says(executor, task_id, state)

    def _acknowledge_some(self) -> None:
        updates = [key for key in sorted(self.heard) if self.random.random() < 0.5]
        if updates:
            self.bench.from_master(m.Acknowledge(FRAMEWORK.framework_id, SlaveID("S-1"), updates))

    def _container_ends(self) -> None:
        alive = [
            e
            for e in self.executors.values()
            if e.alive and e.container_id in self.bench.core.state.containers
        ]
        if alive:
            executor = self.random.choice(alive)
            executor.alive = False
            for task_id in executor.running:
                self.ended_by_executor[task_id] = TaskState.FAILED
            executor.running.clear()
            self.bench.event(ev.ExecutorEnded(executor.container_id, ExitRecord(1)))
            self.bench.event(ev.ContainerDestroyed(executor.container_id))

    def _crash(self) -> None:
        """kill -9: messages of the last turn have left, appended records are written; nothing else survives."""
        bench = self.bench
        bench.crash_after = None
        for executor in self.executors.values():
            executor.connected = False
        self.settle()
        ended = {e.container_id for e in self.executors.values() if not e.alive}
        self.inspecting.clear()
        again = bench.crash(ended=ended, exit_record=ExitRecord(1), settings=self.settings)
        for container_id in [c for c in again.core.state.containers if c in ended]:
            again.event(ev.ContainerDestroyed(container_id))
        again.sync_at_once = again.inspects_at_once = False
        self.bench = again
        for executor in self.executors.values():
            if executor.container_id not in again.core.state.containers:
                executor.alive = False
        again.register()

    def finish(self) -> None:
        """No more faults: all messages are sent, and every task ends."""
        for _ in range(400):
            self._executor_connects()
            for executor in self.executors.values():
                for task_id in sorted(executor.running):
                    if executor.alive:
                        self._executor_says(executor, task_id, TaskState.FINISHED)
            self.settle()
            while self.inspecting:
                self._answer_inspection()
            while self.bench.unsynced:
                self.bench.synced()
            self.settle()
            if self.heard:
                self.bench.from_master(
                    m.Acknowledge(FRAMEWORK.framework_id, SlaveID("S-1"), sorted(self.heard))
                )
            self.bench.turn(1.0)
            self.bench.from_master(m.Ping())
            self.settle()
            if not self.bench.core.state.tasks and not self.bench.core.statuses.streams:
                return
        raise AssertionError(f"tasks without an end: {sorted(self.bench.core.state.tasks)}")


@pytest.mark.parametrize("seed", range(150))
def test_every_task_has_one_true_end_however_often_the_slave_is_killed(seed: int) -> None:
    world = World(seed)
    for _ in range(250):
        world.step()
    world.finish()
    for task_id in world.asked:
        ends = world.terminal.get(task_id, [])
        assert len(ends) <= 1, f"seed {seed}: {task_id} ended {ends}"
        if TaskState.FINISHED in ends:
            assert world.ended_by_executor.get(task_id) is TaskState.FINISHED, (
                f"seed {seed}: {task_id} never finished"
            )
        if not ends:
            # never delivered, and forgotten in a crash: the master calls it lost, because the registration did not name it
            assert task_id in world.forgotten, f"seed {seed}: {task_id} has no end"
            assert task_id not in world.delivered, f"seed {seed}: {task_id} ran and nobody was informed"
