"""What every simulated framework does: it registers, answers offers, keeps its tasks, acknowledges, counts.

A subclass decides what to run on an offer (`choose`), whether it wants more (`wants_more`), and what to do at an end
(`task_ended`). It does not know how long a task will take: only the slave does.
"""

from __future__ import annotations

import msgspec

from offerd import messages as m
from offerd.ids import ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import Offer, Reason, TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources
from offerd_simulator.cluster import Cluster
from offerd_simulator.curves import Curve
from offerd_simulator.slaves import program

EXECUTOR = m.ExecutorInfo(ExecutorID("model"), module="model")
SLOT = Resources.of(cpus=1, mem="1G")
"""The name of the resource that stands for a slot in the paper's analysis."""


class SimulatedTask(msgspec.Struct, eq=False, gc=False):
    """A task from its choice to its end. `owner` is anything that the framework wants to remember with it."""

    task_id: TaskID
    resources: Resources
    duration_s: float
    limit_s: float | None
    owner: object = None
    slave_id: SlaveID = SlaveID("")
    launched_at: float = 0.0
    started_at: float | None = None


class Framework:
    """A scheduler without sockets. `held` is the curve of the resources that its tasks hold."""

    refuse_s = 0.0
    """The refusal sent when it takes nothing of an offer, or only a part."""

    def __init__(self, name: str, cluster: Cluster, *, role: str = "*", reports: bool = True) -> None:
        self.name = name
        self.cluster = cluster
        self.engine = cluster.engine
        self.framework_id = FrameworkID("")
        self.tasks: dict[TaskID, SimulatedTask] = {}
        self.held = Curve(self.engine.now)
        self.held_mem = Curve(self.engine.now)
        self.finished = 0
        self.timed_out = 0
        self.useful_s = 0.0
        self.wasted_s = 0.0
        self._needs_offers = True
        self._number = 0
        self._reports = reports
        self.peer = cluster.connect(f"framework-{name}", self)
        cluster.to_master(
            self.peer, m.RegisterFramework(m.FrameworkInfo(name, role=role, executors=[EXECUTOR]))
        )

    # -- For subclasses ---------------------------------------------------------------------------------------

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        """The tasks to run on this offer, made by `new_task`; an empty list declines it."""
        raise NotImplementedError

    def wants_more(self) -> bool:
        """Whether it can use offers now."""
        raise NotImplementedError

    def task_started(self, task: SimulatedTask) -> None:
        """It runs."""

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        """A task has ended, in whatever way."""

    # -- Orders -----------------------------------------------------------------------------------------------------

    def new_task(
        self,
        duration_s: float,
        resources: Resources = SLOT,
        limit_s: float | None = None,
        owner: object = None,
    ) -> SimulatedTask:
        self._number += 1
        return SimulatedTask(TaskID(f"t{self._number}"), resources, duration_s, limit_s, owner)

    def kill(self, task: SimulatedTask) -> None:
        self.cluster.to_master(self.peer, m.KillTask(self.framework_id, task.task_id, task.slave_id, 0.0))

    def leave(self) -> None:
        """End the framework and all its tasks."""
        self.cluster.to_master(self.peer, m.TeardownFramework())

    def update_needs(self) -> None:
        """Report to the master whether offers are wanted, if that has changed."""
        needs = self.wants_more()
        if needs != self._needs_offers:
            self._needs_offers = needs
            self.cluster.to_master(self.peer, m.SetNeedsOffers(needs))

    # -- Messages of the master ---------------------------------------------------------------------------------------

    def receive(self, message: m.Message) -> None:
        kind = type(message)
        if kind is m.StatusUpdate:
            assert isinstance(message, m.StatusUpdate)
            self._status(message.status)
        elif kind is m.ResourceOffers:
            assert isinstance(message, m.ResourceOffers)
            for offer in message.offers:
                self._offered(offer)
            self.update_needs()
        elif kind is m.Ping:
            self.cluster.to_master(self.peer, m.Pong())
        elif kind is m.FrameworkRegistered:
            assert isinstance(message, m.FrameworkRegistered)
            self.framework_id = message.framework_id
            self.update_needs()

    def _offered(self, offer: Offer) -> None:
        chosen = self.choose(offer)
        if not chosen:
            self.cluster.to_master(self.peer, m.DeclineOffers([offer.offer_id], self.refuse_s))
            return
        now = self.engine.now
        infos = []
        millicpus = mem_bytes = 0
        for task in chosen:
            task.slave_id, task.launched_at = offer.slave_id, now
            self.tasks[task.task_id] = task
            millicpus += task.resources.millicpus
            mem_bytes += task.resources.mem_bytes
            infos.append(
                TaskInfo(
                    task.task_id,
                    task.resources,
                    EXECUTOR.executor_id,
                    data=program(task.duration_s),
                    time_limit_s=task.limit_s,
                )
            )
        self.held.add(now, millicpus)
        self.held_mem.add(now, mem_bytes)
        self.cluster.to_master(self.peer, m.AcceptOffers([offer.offer_id], infos, self.refuse_s))

    def _status(self, status: TaskStatus) -> None:
        now = self.engine.now
        if not status.state.terminal:
            running = self.tasks.get(status.task_id)
            if running is not None and running.started_at is None:
                running.started_at = now
                self.task_started(running)
        else:
            task = self.tasks.pop(status.task_id)
            self.held.add(now, -task.resources.millicpus)
            self.held_mem.add(now, -task.resources.mem_bytes)
            ran_s = now - (task.launched_at if task.started_at is None else task.started_at)
            if status.state is TaskState.FINISHED:
                self.finished += 1
                self.useful_s += ran_s
            elif status.reason == Reason.TASK_TIMEOUT:
                self.timed_out += 1
                self.wasted_s += ran_s
            self.task_ended(task, status)
            self.update_needs()
        if self._reports and status.sequence:
            acknowledged = [(status.task_id, status.sequence)]
            self.cluster.to_master(self.peer, m.Acknowledge(self.framework_id, status.slave_id, acknowledged))
