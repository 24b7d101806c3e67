"""Makes the API's objects of what the gateway knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache

from offerd.core.usual_units import usual_amount, usual_amounts, usual_resources
from offerd.ids import FrameworkID, SlaveID
from offerd.operator_messages import Explanation
from offerd.operator_messages import Holding as HeldByOne
from offerd.protocol.change_messages import FrameworkNow, OfferNow, SlaveNow, TaskNow
from offerd.resources import Resources
from offerd_web.core import shapes
from offerd_web.core.view import NO_TALLY, ClusterView


def amounts(counted: Counter[str]) -> shapes.Amounts:
    """Sums in usual units. What is zero is left out."""
    return {name: usual_amount(name, amount) for name, amount in counted.items() if amount}


@lru_cache(4096)
def _resources_of(encoded: tuple[tuple[str, int], ...]) -> shapes.Resources:
    return dict(usual_amounts(dict(encoded)))


def resources(amount: Resources) -> shapes.Resources:
    """Resources in usual units. Most are the same few scalars, so their dictionaries are shared: change none."""
    if not amount.ranges and not amount.sets:
        return _resources_of(tuple(amount.scalars.items()))
    return usual_resources(amount)  # type: ignore[return-value]


class Describer:
    """Describes one view's things, as far as one caller may see them."""

    def __init__(self, view: ClusterView, sees: Callable[[str], bool], only_of: str) -> None:
        """`sees`: whether the caller may see the framework of this id. `only_of`: the owner whose frameworks alone are seen."""
        self._view = view
        self._sees = sees
        self._only_of = only_of

    def cluster(self, now: float, following: shapes.Following, address: str) -> shapes.Cluster:
        view, replica = self._view, self._view.replica
        master = replica.master
        total, withheld = view.total(), view.withheld()
        slaves = Counter(slave.state for slave in replica.slaves.values())
        slaves["silent"] = sum(
            not slave.is_connected and slave.state != "lost" for slave in replica.slaves.values()
        )
        tasks = dict(view.ended_counts())
        tasks.update({state.value: number for state, number in view.everything.tasks.items() if number})
        used = {
            "cpus": sum(slave.used_millicpus for slave in replica.slaves.values()) / 1000,
            "mem": sum(slave.used_mem_bytes for slave in replica.slaves.values()),
        }
        held, offered = view.everything.held, view.everything.offered
        return shapes.Cluster(
            version=view.version,
            now=now,
            following=following,
            master=None
            if master is None
            else shapes.Master(
                master_id=master.master_id,
                version=master.version,
                allocator=master.allocator,
                address=address,
                leads_since=view.wall(master.started_at),
            ),
            resources={
                name: shapes.Usage(
                    total=usual_amount(name, amount),
                    held=usual_amount(name, held[name]),
                    offered=usual_amount(name, offered[name]),
                    withheld=usual_amount(name, withheld[name]),
                    used=used.get(name),
                )
                for name, amount in total.items()
            },
            slaves=dict(slaves),
            frameworks=dict(Counter(each.state for each in replica.frameworks.values())),
            tasks=tasks,
            wasted_resource_s={} if master is None else master.wasted_resource_s,
            dropped_peers=0 if master is None else master.dropped_peers,
            refused=0 if master is None else master.refused,
            failed_messages=0 if master is None else master.failed_messages,
            unsent_messages=0 if master is None else master.unsent_messages,
        )

    # -- Slaves ---------------------------------------------------------------------------------------------------------

    def slaves(self) -> Iterator[shapes.Slave]:
        for slave_id in sorted(self._view.replica.slaves):
            yield self.slave(self._view.replica.slaves[slave_id])

    def slave(self, slave: SlaveNow) -> shapes.Slave:
        view = self._view
        info = view.replica.slave_infos.get(slave.slave_id)
        tally = view.by_slave.get(slave.slave_id, NO_TALLY)
        return shapes.Slave(
            slave_id=slave.slave_id,
            hostname=self.hostname(slave.slave_id),
            state=slave.state,
            is_connected=slave.is_connected,
            is_disk_full=slave.is_disk_full,
            since=view.wall(slave.since),
            isolation="" if info is None else info.isolation,
            attributes={} if info is None else dict(info.attributes),
            facts={} if info is None else dict(info.facts),
            total={} if info is None else resources(info.resources),
            held=amounts(tally.held),
            offered=amounts(tally.offered),
            free=resources(slave.free),
            long_held=usual_amounts(slave.long_used),
            long_fraction=0.0 if info is None else info.long_fraction,
            short_limit_s=0.0 if info is None else info.short_limit_s,
            used_cpus=slave.used_millicpus / 1000,
            used_mem_bytes=slave.used_mem_bytes,
            tasks={state.value: number for state, number in tally.tasks.items() if number},
            executors=[
                shapes.Executor(
                    framework_id=each.framework_id,
                    executor_id=each.executor_id,
                    user=each.user,
                    resources=resources(each.resources),
                )
                for each in slave.executors
                if self._sees(each.framework_id)
            ],
            offers=[self.offer(slave, each) for each in slave.offers if self._sees(each.framework_id)],
        )

    def offers(self) -> Iterator[shapes.Offer]:
        for slave in self._view.replica.slaves.values():
            for offer in slave.offers:
                if self._sees(offer.framework_id):
                    yield self.offer(slave, offer)

    def offer(self, slave: SlaveNow, offer: OfferNow) -> shapes.Offer:
        return shapes.Offer(
            offer_id=offer.offer_id,
            framework_id=offer.framework_id,
            framework_name=self.framework_name(offer.framework_id),
            slave_id=slave.slave_id,
            hostname=self.hostname(slave.slave_id),
            resources=resources(offer.resources),
            expires_at=self._view.wall(offer.until),
        )

    def hostname(self, slave_id: SlaveID) -> str:
        """Empty if the master does not know the slave any more."""
        info = self._view.replica.slave_infos.get(slave_id)
        return "" if info is None else info.hostname

    # -- Frameworks -----------------------------------------------------------------------------------------------------

    def frameworks(self, *, ended: bool) -> Iterator[shapes.Framework]:
        users = self._users()
        for framework_id, framework in sorted(self._view.replica.frameworks.items()):
            if (ended or framework.state != "ended") and self._sees(framework_id):
                yield self.framework(framework, users)

    def some_frameworks(self, framework_ids: set[FrameworkID]) -> list[shapes.Framework]:
        """Those of these that there are, and that the caller sees."""
        found, users = self._view.replica.frameworks, self._users()
        return [
            self.framework(found[framework_id], users)
            for framework_id in sorted(framework_ids & found.keys())
            if self._sees(framework_id)
        ]

    def framework(
        self, framework: FrameworkNow, users: dict[FrameworkID, set[str]] | None = None
    ) -> shapes.Framework:
        view, framework_id = self._view, framework.framework_id
        info = view.replica.framework_infos.get(framework_id)
        tally = view.by_framework.get(framework_id, NO_TALLY)
        tasks = dict(framework.ended_counts)
        tasks.update({state.value: number for state, number in tally.tasks.items() if number})
        asked = "" if info is None else info.user
        return shapes.Framework(
            framework_id=framework_id,
            name=self.framework_name(framework_id),
            role="" if info is None else info.role,
            user=", ".join(sorted((users or self._users()).get(framework_id, ()))) or asked,
            hostname="" if info is None else info.hostname,
            state=framework.state,
            since=view.wall(framework.since),
            ended_at=view.wall_or_none(framework.ended_at),
            needs_offers=framework.needs_offers,
            schedulers=framework.schedulers,
            share=framework.share,
            guaranteed=resources(framework.guaranteed),
            under_share_since=view.wall_or_none(framework.under_share_since),
            held=amounts(tally.held),
            offered=amounts(tally.offered),
            tasks=tasks,
            wasted_resource_s=framework.wasted_resource_s,
            ramp_up_s=framework.ramp_up_s,
            labels={} if info is None else dict(info.labels),
        )

    def framework_name(self, framework_id: FrameworkID) -> str:
        """Empty if the master does not know the framework any more."""
        info = self._view.replica.framework_infos.get(framework_id)
        return "" if info is None else info.name

    def _users(self) -> dict[FrameworkID, set[str]]:
        """The accounts that each framework's executors run as."""
        users: dict[FrameworkID, set[str]] = {}
        for slave in self._view.replica.slaves.values():
            for executor in slave.executors:
                users.setdefault(executor.framework_id, set()).add(executor.user)
        return users

    def roles(self) -> list[shapes.Role]:
        """Roles with frameworks that have not ended."""
        found: dict[str, shapes.Role] = {}
        view = self._view
        held: dict[str, Counter[str]] = {}
        for framework_id, framework in view.replica.frameworks.items():
            info = view.replica.framework_infos.get(framework_id)
            if framework.state == "ended" or info is None or not self._sees(framework_id):
                continue
            role = found.setdefault(
                info.role, shapes.Role(role=info.role, frameworks=0, share=0.0, held={}, tasks=0)
            )
            tally = view.by_framework.get(framework_id, NO_TALLY)
            role.frameworks += 1
            role.share += framework.share
            role.tasks += tally.tasks.total()
            held.setdefault(info.role, Counter()).update(tally.held)
        for name, role in found.items():
            role.held = amounts(held[name])
        return [found[name] for name in sorted(found)]

    # -- Tasks ----------------------------------------------------------------------------------------------------------

    def task(self, task: TaskNow) -> shapes.Task:
        view = self._view
        return shapes.Task(
            task_id=task.task_id,
            framework_id=task.framework_id,
            framework_name=self.framework_name(task.framework_id),
            slave_id=task.slave_id,
            hostname=self.hostname(task.slave_id),
            executor_id=task.executor_id,
            name=task.name,
            state=task.state.value,
            resources=resources(task.resources),
            time_limit_s=task.time_limit_s,
            is_long=task.is_long,
            is_being_killed=task.is_being_killed,
            launched_at=view.wall(task.launched_at),
            running_since=view.wall_or_none(task.running_since),
            ended_at=None,
            reason="",
            message=task.message,
            exit_status=None,
            user=self.user(task),
            output=None,
            usage=None,
            has_files=bool(task.container_id),
        )

    def user(self, task: TaskNow) -> str:
        """Who runs it; empty: not known."""
        slave = self._view.replica.slaves.get(task.slave_id)
        for executor in () if slave is None else slave.executors:
            if (executor.framework_id, executor.executor_id) == (task.framework_id, task.executor_id):
                return executor.user
        return ""

    def state(self, now: float, following: shapes.Following, address: str) -> shapes.State:
        """Everything that is now."""
        tasks = self._view.replica.tasks.values()
        return shapes.State(
            cluster=self.cluster(now, following, address),
            slaves=list(self.slaves()),
            frameworks=list(self.frameworks(ended=False)),
            tasks=[self.task(task) for task in tasks if self._sees(task.framework_id)],
            only_of=self._only_of,
        )


def explanation(found: Explanation) -> shapes.Explanation:
    """The master's answer."""
    return shapes.Explanation(
        framework_id=found.framework_id,
        name=found.name,
        state=found.state,
        needs_offers=found.needs_offers,
        share=found.share,
        fair_share=found.fair_share,
        under_share_s=found.under_share_s,
        under_guarantee_s=found.under_guarantee_s,
        needed=usual_amounts(found.needed),
        causes=[
            shapes.Cause(
                why=cause.why,
                slaves=cause.slaves,
                text=cause.text,
                free=usual_amounts(cause.free),
                holders=[_holding(each) for each in cause.holders],
            )
            for cause in found.causes
        ],
    )


def _holding(held: HeldByOne) -> shapes.Holding:
    return shapes.Holding(kind=held.kind, name=held.name, amounts=usual_amounts(held.amounts))
