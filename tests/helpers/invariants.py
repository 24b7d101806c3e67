"""Invariants of a master after every event."""

from __future__ import annotations

from collections.abc import Iterable

from offerd.ids import FrameworkID
from offerd.messages import KillTask, Reason
from offerd.resources import Resources
from offerd.values import ranges as rng
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.core.actions import Action, Send
from offerd_master.core.cluster import Cluster
from offerd_master.core.failover import holdings
from offerd_master.core.master import MasterCore
from offerd_master.core.pool import pool_of
from offerd_master.core.revocation import holds
from offerd_master.core.state import Framework, Slave, SlaveState, Task


def check_invariants(core: MasterCore) -> None:
    """Raise `AssertionError` where the master contradicts itself."""
    c = core.cluster
    for slave_id, slave in c.slaves.items():
        assert slave.slave_id == slave_id
        assert slave.state is not SlaveState.LOST
        check_accounts(slave)
        check_slave(c, slave)
    for framework_id, framework in c.frameworks.items():
        assert framework.framework_id == framework_id
        check_framework(c, framework)
    for lost in c.lost_slaves.values():
        assert lost.slave_id not in c.slaves
        assert (lost.state, lost.tasks, lost.executors, lost.offers) == (SlaveState.LOST, {}, {}, {})
    check_offers(c)
    for peer, known in c.peers.items():
        assert known.peer == peer, "a routing id maps to a peer with another one"
    assert set(c.dirty) <= set(c.slaves)
    assert set(c.idle) <= set(c.slaves) - set(c.dirty)
    for slave_id, slave in c.slaves.items():
        assert not (slave.is_disk_full and slave.offers), "a slave with a full disk is offered"
        is_marked = slave_id in c.dirty or slave_id in c.idle
        assert slave.may_be_offered or not is_marked, f"{slave_id} is looked at though it may not be offered"
        if slave.may_be_offered and slave.is_worth_offering():
            assert is_marked, f"what is free on {slave_id} was forgotten"
    if isinstance(c.allocator, DrfAllocator):
        assert c.allocator.total == _quantities(slave.total for slave in c.slaves.values())


def check_revocations(core: MasterCore, actions: Iterable[Action]) -> int:
    """Check that no action of a tick revokes more tasks of a framework than needed to reach its guarantee. Returns how many
    tasks were revoked.
    """
    c = core.cluster
    revoked: dict[FrameworkID, list[Task]] = {}
    for action in actions:
        message = action.message if isinstance(action, Send) else None
        if isinstance(message, KillTask) and message.reason == Reason.REVOKED:
            task = c.frameworks[message.framework_id].tasks[message.task_id]
            revoked.setdefault(message.framework_id, []).append(task)
    for framework_id, tasks in revoked.items():
        assert c.entitlements is not None
        guaranteed = c.entitlements.guaranteed(framework_id)
        held = holds(c, c.frameworks[framework_id])
        for task in reversed(tasks):
            for name, amount in task.resources.quantities().items():
                held[name] = held.get(name, 0) + amount
            assert not guaranteed or any(held.get(name, 0) > amount for name, amount in guaranteed.items()), (
                f"{framework_id} lost {task.task_id} while it held {held} of its guaranteed {guaranteed}"
            )
    return sum(map(len, revoked.values()))


def check_accounts(slave: Slave) -> None:
    """used + offered + free = total; nothing is allocated twice; long tasks stay under their cap."""
    held = [task.resources for task in slave.tasks]
    held += [executor.resources for mine in slave.executors.values() for executor in mine.values()]
    assert slave.used() == pool_of(held).freeze()
    parts = [*held, *(offer.resources for offer in slave.offers.values())]
    scalars = dict(slave.free.scalars)
    for part in parts:
        for name, amount in part.scalars.items():
            scalars[name] = scalars.get(name, 0) + amount
    assert {name: amount for name, amount in scalars.items() if amount} == slave.total.scalars
    parts.append(slave.free.rest)
    for name, spans in slave.total.ranges.items():
        everything = [span for part in parts for span in part.ranges.get(name, [])]
        assert rng.size(everything) == rng.size(spans), f"{name} allocated twice, or missing"
        assert rng.union(everything) == spans
    for name, words in slave.total.sets.items():
        assert sorted(word for part in parts for word in part.sets.get(name, [])) == words
    long_used = _quantities(task.resources for task in slave.tasks if task.is_long)
    assert {name: amount for name, amount in slave.long_used.items() if amount} == long_used
    for name, amount in long_used.items():
        assert amount <= slave.long_cap.get(name, 0), "long tasks above their cap"


def check_slave(c: Cluster, slave: Slave) -> None:
    """Tasks, executors and offers are known to both sides."""
    for task in slave.tasks:
        assert task.slave is slave
        assert c.frameworks[task.framework.framework_id] is task.framework
        assert task.framework.tasks[task.task_id] is task
        assert not task.state.terminal
    for framework_id, mine in slave.executors.items():
        assert mine
        framework = c.frameworks[framework_id]
        for executor_id, executor in mine.items():
            ours = [t for t in slave.tasks if t.framework is framework and t.executor_id == executor_id]
            assert executor.tasks == len(ours)
    if slave.peer is None or slave.state is not SlaveState.ACTIVE or slave.is_unresponsive:
        assert not slave.offers, "resources of a slave that nobody can reach or that drains are offered"
    else:
        assert c.peers[slave.peer] is slave


def check_framework(c: Cluster, framework: Framework) -> None:
    """A framework is charged for what it holds; one that is not connected is offered nothing."""
    for task in framework.tasks.values():
        assert task.framework is framework
        assert task in c.slaves[task.slave.slave_id].tasks
    running = sum(len(slave.executors.get(framework.framework_id, {})) for slave in c.slaves.values())
    assert framework.executors_running == running
    charged = c.allocator.held(framework.framework_id)
    assert {n: a for n, a in charged.items() if a} == _quantities(holdings(c, framework))
    is_there = framework.peer is not None and not framework.is_unresponsive
    wants = is_there and framework.needs_offers and not framework.ended
    assert (framework.framework_id in c.wanting) == wants
    if framework.peer is None or framework.ended:
        assert not framework.offers
    if framework.peer is not None:
        assert c.peers[framework.peer] is framework
    for standby in framework.standbys:
        assert c.peers[standby.peer] is standby
        assert standby.framework is framework
    assert not framework.unreachable.keys() & framework.tasks.keys(), "held and unreachable at once"
    assert not (framework.ended and (framework.standbys or framework.unreachable))
    if framework.ended:
        assert framework.tasks or framework.executors_running, (
            "an ended framework that holds nothing was kept"
        )


def check_offers(c: Cluster) -> None:
    """Every open offer is listed once with its slave, its framework and in the order of deadlines."""
    ordered = {offer.offer_id for offer in c.offer_order}
    for offer_id, offer in c.offers.items():
        assert offer.slave.offers[offer_id] is offer
        assert offer.framework.offers[offer_id] is offer
        assert c.slaves[offer.slave.slave_id] is offer.slave
        assert offer_id in ordered
    assert len(c.offers) == sum(len(slave.offers) for slave in c.slaves.values())
    assert len(c.offers) == sum(len(framework.offers) for framework in c.frameworks.values())
    assert len(c.offer_order) <= 2 * len(c.offers) + 1100


def _quantities(amounts: Iterable[Resources]) -> dict[str, int]:
    total: dict[str, int] = {}
    for amount in amounts:
        for name, quantity in amount.quantities().items():
            total[name] = total.get(name, 0) + quantity
    return total
