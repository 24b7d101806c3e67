"""A scheduler of a simulated cluster: its real core, and a framework that wants its tasks run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.sim_link import Link
from offerd import messages as m
from offerd.core.scheduler_core import Call, Deliver, End, SchedulerCore
from offerd.core.scheduler_core import Send as SchedulerSend
from offerd.ids import ExecutorID, TaskID
from offerd.resources import Resources
from offerd.wire import codec

if TYPE_CHECKING:
    from helpers.sim_cluster import World

EXECUTOR = m.ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
WHIMS_END_AT = 130.0


class SchedulerNode:
    """A scheduler's core and a framework that wants to run its tasks once each."""

    codec = codec.to_scheduler

    def __init__(self, world: World, number: int, tasks: int) -> None:
        self.world = world
        self.name = name = f"framework{number}"
        self.link = Link(world, self)
        role = world.rules.roles[number % len(world.rules.roles)]
        info = m.FrameworkInfo(
            name,
            role=role,
            executors=[EXECUTOR],
            failover_timeout_s=600.0,
            unreachable_timeout_s=world.patience_s,
        )
        self.core = SchedulerCore(info)
        limits = [2.0, 30.0, 60.0, None]
        self.waiting = [
            m.TaskInfo(
                TaskID(f"{name}-{i}"),
                Resources.of(cpus=world.random.choice([0.5, 1, 2]), mem="64M"),
                EXECUTOR.executor_id,
                time_limit_s=world.random.choice(limits),
            )
            for i in range(tasks)
        ]
        self.tasks = {task.task_id: task for task in self.waiting}
        self.ended: dict[TaskID, list[m.TaskStatus]] = {}
        self.errors: list[str] = []

    def start(self) -> None:
        self._perform(self.core.start(self.world.now))
        self._tick()
        if self.world.rules.has_whims:
            self._have_whim()

    def receive(self, epoch: int, message: m.Message) -> None:
        if self.core.obeys(epoch):
            self._perform(self.core.handle(message, self.world.now))

    def connected(self) -> None:
        """It is connected to another master."""
        self._perform(self.core.link_changed(False, self.world.now))
        self._perform(self.core.link_changed(True, self.world.now))

    def _have_whim(self) -> None:
        """Now and then change its filters; in the end it accepts any offer."""
        chance, core, now = self.world.random, self.core, self.world.now
        if now > WHIMS_END_AT:
            self._perform([*core.set_filters(m.Filters(), now), *core.set_needs_offers(True, now)])
            self._perform(core.revive_offers(now))
            return
        filters = [
            m.Filters(),
            m.Filters(minimum=Resources.of(cpus=2)),
            m.Filters(attributes_match={"rack": "r[01]"}, minimum=Resources.of(cpus=1)),
            m.Filters(attributes={"rack": "r1"}, attributes_exist=["rack"]),
            m.Filters(attributes_exist=["gpu"]),
        ]
        self._perform(core.set_filters(chance.choice(filters), now))
        self._perform(core.set_needs_offers(chance.random() < 0.8, now))
        if chance.random() < 0.3:
            self._perform(core.revive_offers(now))
        self.world.at(chance.uniform(0.2, 4.0), self._have_whim)

    def _give_up(self, task_ids: list[TaskID]) -> None:
        """At a notice of revocation the framework sometimes ends some of these tasks, or others."""
        chance = self.world.random
        mine = [*task_ids, *(task_id for task_id in self.tasks if task_id not in self.ended)]
        for task_id in chance.sample(mine, chance.randrange(len(task_ids) + 1)):
            if all(task_id != task.task_id for task in self.waiting):
                self._perform(self.core.kill_task(task_id, None, self.world.now))

    def _tick(self) -> None:
        self._perform(self.core.tick(self.world.now))
        self.world.at(max(0.05, self.core.next_deadline() - self.world.now), self._tick)

    def _perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, SchedulerSend):
                self.link.up(action.message)
            elif isinstance(action, Deliver):
                if action.status.state.terminal:
                    self.heard_end(action.status)
                self.core.delivered(action.status)
            elif isinstance(action, Call) and action.callback == "resource_offers":
                for offer in action.arguments[0]:
                    self._perform(self._answer(offer))
            elif isinstance(action, Call) and action.callback == "revocation_notice":
                self._give_up(action.arguments[0])
            elif isinstance(action, End):
                self.errors.append(f"{action.reason}: {action.message}")
        for message in self.core.acknowledgements():
            self.link.up(message)

    def heard_end(self, status: m.TaskStatus) -> None:
        self.ended.setdefault(status.task_id, []).append(status)

    def _answer(self, offer: m.Offer) -> list[Any]:
        free, taken = offer.resources, []
        for task in list(self.waiting):
            if free.covers(task.resources) and self.world.random.random() < 0.9:
                free = free - task.resources
                taken.append(task)
                self.waiting.remove(task)
        if not taken:
            return self.core.decline_offer([offer.offer_id], 1.0, self.world.now)
        return self.core.reply_to_offer([offer.offer_id], taken, 0.0, self.world.now)
