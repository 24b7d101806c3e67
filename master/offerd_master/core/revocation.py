"""Revocation: tasks of frameworks above their guarantee end, for frameworks under theirs (Mesos, NSDI 2011, section 3.3).

*When*: a framework has wanted offers and been under its guarantee for `revoke_after_s`. First, offers to other frameworks are
taken back, as this costs nothing. Only what is missing after that is taken from tasks.

*Whose*: the allocation module chooses (`Allocator.revocation_order`); by default the most recently launched tasks go first.
They are only of frameworks that hold more than their guarantee, on slaves that the framework in need does not filter. Tasks
that would free too little of a slave for its filters are left alone.

*How*: each victim is sent the ids of the tasks that it may lose. Whatever tasks it ends by itself count. When the grace is over
the rest is killed, unless it is no longer needed. Before every kill the victim's holdings are checked again: a framework at or
under its guarantee loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from offerd import messages as m
from offerd.messages import Reason
from offerd.resources import Resources
from offerd_master.allocation.base import RevocableTask
from offerd_master.allocation.entitlements import Entitlements
from offerd_master.core import eligibility, offers
from offerd_master.core.cluster import Cluster
from offerd_master.core.pool import Pool
from offerd_master.core.state import Framework, Revocation, Shortage, Slave, Task
from offerd_master.core.tasks import kill

CHECK_INTERVAL_S = 1.0
MAX_PAUSE_S = 60.0
"""Longest time between two searches for victims on behalf of one framework."""

TASKS_PER_NOTICE = 4_000
"""Task ids (of at most 128 bytes) in one message: half a frame."""

Quantities = dict[str, int]


def begin(c: Cluster, now: float) -> None:
    """Watch the guarantees from now on, if there are any; without them this costs nothing."""
    if c.entitlements is not None and c.entitlements.has_guarantees:
        c.timers.set(now + CHECK_INTERVAL_S, _check, c.entitlements)


def _check(c: Cluster, entitlements: Entitlements, now: float) -> None:
    """Note which frameworks are under their guarantee, and since when; revoke for those that have been so for too long."""
    if entitlements is not c.entitlements:
        return  # the operator has changed the terms
    c.timers.set(now + CHECK_INTERVAL_S, _check, entitlements)
    _forget_ended(c)
    if now < c.revoke_not_before:
        return
    _warn_if_shrunk(c, entitlements)
    before, after_s = c.shortages, c.settings.revoke_after_s
    c.shortages = {
        framework_id: before.get(framework_id) or Shortage(now, now + after_s, max(after_s, CHECK_INTERVAL_S))
        for framework_id in entitlements.under_and_wanting()
    }
    for framework_id, shortage in c.shortages.items():
        if now >= shortage.next_try_at:
            # A search goes through all tasks, so each search in vain doubles the pause before the next.
            shortage.next_try_at = now + shortage.pause_s
            shortage.pause_s = min(2 * shortage.pause_s, MAX_PAUSE_S)
            _revoke_for(c, entitlements, c.frameworks[framework_id], now)


def _warn_if_shrunk(c: Cluster, entitlements: Entitlements) -> None:
    shrunk = entitlements.shrunk()
    if shrunk.keys() != c.shrunk_guarantees:
        c.shrunk_guarantees = frozenset(shrunk)
        for name, (guaranteed, there) in shrunk.items():
            c.log(
                f"more {name} is guaranteed ({guaranteed}) than the cluster has ({there}): all guarantees shrink with it",
                "warning",
            )


# -- Choosing -----------------------------------------------------------------------------------------------------------


def _revoke_for(c: Cluster, entitlements: Entitlements, framework: Framework, now: float) -> None:
    missing = _missing(c, entitlements, framework, now)
    if not missing:
        return
    if _take_back_offers(c, entitlements, framework, missing, now):
        return  # what was taken back is offered in this turn; if that does not help, the next check sees it
    chosen = _choose(c, entitlements, framework, missing, now)
    for victim, tasks in chosen.items():
        amount = _sum(task.resources for task in tasks)
        demanded = {name: amount[name] for name in missing if amount.get(name, 0)}
        grace_s = c.settings.revoke_grace_s
        c.counts.revocations += len(tasks)
        revocation = Revocation(framework, victim, tasks, demanded, holds(c, victim))
        c.revocations.append(revocation)
        c.timers.set(now + grace_s, _grace_over, revocation)
        c.log(
            f"framework {framework.framework_id} is under its guarantee: framework {victim.framework_id} must give up "
            f"{len(tasks)} tasks within {grace_s:g} s",
            "warning",
        )
        for start in range(0, len(tasks), TASKS_PER_NOTICE):
            part = tasks[start : start + TASKS_PER_NOTICE]
            c.send(victim.peer, m.RevocationNotice([task.task_id for task in part], grace_s))


def _missing(c: Cluster, entitlements: Entitlements, framework: Framework, now: float) -> Quantities:
    """What is missing to its guarantee. As held count its offers, what is already on its way to it, and free resources that it
    has declined: tasks that do not fit where there is room would hardly fit where tasks of others were.
    """
    framework_id = framework.framework_id
    there = dict(c.allocator.held(framework_id))
    for revocation in c.revocations:
        if revocation.framework is framework:
            _add(there, revocation.demanded, 1)
    for slave in c.slaves.values():
        free = slave.free.freeze()
        if eligibility.has_refused(framework, slave, free, now) and _is_enough(framework, slave, free):
            _add(there, free.quantities(), 1)
    missing = {
        name: amount - there.get(name, 0) for name, amount in entitlements.guaranteed(framework_id).items()
    }
    return missing if all(amount > 0 for amount in missing.values()) else {}


def _take_back_offers(
    c: Cluster, entitlements: Entitlements, framework: Framework, missing: Quantities, now: float
) -> bool:
    """Rescind offers of frameworks above their guarantee until as much is free; returns whether there were any."""
    left = dict(missing)
    found = False
    ceilings = entitlements.too_low(framework.framework_id, missing)
    for offer in list(c.offers.values()):
        other, slave = offer.framework, offer.slave
        if other is framework or not _is_above(entitlements, other, c.allocator.held(other.framework_id)):
            continue
        if not entitlements.is_under_all(other.framework_id, ceilings):
            continue
        after = Pool(slave.free.freeze())
        after.give(offer.resources)
        if not _would_take(framework, slave, after.freeze(), now):
            continue
        offers.rescind(c, [offer])
        found = True
        _add(left, offer.resources.quantities(), -1)
        if all(left[name] <= 0 for name in missing):
            break
    return found


def _choose(
    c: Cluster, entitlements: Entitlements, framework: Framework, missing: Quantities, now: float
) -> dict[Framework, list[Task]]:
    """The tasks to revoke, by framework: as few as make up what is missing, on slaves where they free enough."""
    left_to: dict[Framework, Quantities] = {}
    chosen: dict[Slave, list[Task]] = {}
    room: dict[Slave, Pool] = {}
    gained: Quantities = {}
    ceilings = entitlements.too_low(framework.framework_id, missing)
    doomed = {task for revocation in c.revocations for task in revocation.tasks}

    def may_help(task: Task) -> bool:
        """Whether the framework could use what the task holds, and the task is not ending already."""
        is_going = task in doomed or task.kill is not None
        return (
            not is_going
            and _is_reachable(framework, task.slave)
            and entitlements.is_under_all(task.framework.framework_id, ceilings)
        )

    for task in _in_order(c, framework, may_help):
        victim, slave = task.framework, task.slave
        held = left_to.get(victim)
        if held is None:
            held = left_to[victim] = holds(c, victim)
            for other in c.revocations:
                if other.victim is victim and not other.is_killing:
                    _add(held, other.demanded, -1)
        amount = task.resources.quantities()
        if not _is_above(entitlements, victim, held) or not any(amount.get(name) for name in missing):
            continue
        _add(held, amount, -1)
        if slave not in room:
            room[slave] = Pool(slave.free.freeze())
        before = room[slave].freeze()
        room[slave].give(task.resources)
        chosen.setdefault(slave, []).append(task)
        after = room[slave].freeze()
        if _would_take(framework, slave, after, now):
            was_enough = _would_take(framework, slave, before, now)
            _add(gained, (task.resources if was_enough else after).quantities(), 1)
        if all(gained.get(name, 0) >= amount for name, amount in missing.items()):
            break
    by_victim: dict[Framework, list[Task]] = {}
    for slave, tasks in chosen.items():
        if _would_take(framework, slave, room[slave].freeze(), now):
            for task in tasks:
                by_victim.setdefault(task.framework, []).append(task)
    return by_victim


def _in_order(c: Cluster, framework: Framework, may_help: Callable[[Task], bool]) -> Iterator[Task]:
    """The tasks of other frameworks that may help, in the module's order."""
    chosen: set[Task] = set()
    candidates = (
        RevocableTask(
            task.framework.framework_id,
            task.task_id,
            task.slave.slave_id,
            task.resources,
            task.launched_at,
            task.time_limit_s,
        )
        for task in _latest_first(c, framework)
        if may_help(task)
    )
    for named in c.allocator.revocation_order(framework.framework_id, candidates):
        victim = c.frameworks.get(named.framework_id)
        task = victim.tasks.get(named.task_id) if victim is not None and victim is not framework else None
        # The module may be foreign code: skip tasks that it names twice, or that it was not asked about.
        if task is not None and task not in chosen and may_help(task):
            chosen.add(task)
            yield task


def _latest_first(c: Cluster, framework: Framework) -> list[Task]:
    """The tasks of all other frameworks, the latest launched first."""
    others = [
        task for f in c.frameworks.values() if f is not framework for task in reversed(f.tasks.values())
    ]
    # Nearly sorted already: a framework's tasks stand as they were launched, except those that slaves brought to a new master.
    others.sort(key=lambda task: -task.launched_at)
    return others


def _is_reachable(framework: Framework, slave: Slave) -> bool:
    return slave.may_be_offered and not eligibility.excludes_slave(framework, slave)


def _would_take(framework: Framework, slave: Slave, free: Resources, now: float) -> bool:
    """Whether the framework would be offered this slave if so much were free there."""
    return _is_enough(framework, slave, free) and not eligibility.has_refused(framework, slave, free, now)


def _is_enough(framework: Framework, slave: Slave, free: Resources) -> bool:
    """The same, had it declined nothing."""
    scalars = free.scalars
    return (
        _is_reachable(framework, slave)
        and all(scalars.get(name, 0) >= amount for name, amount in slave.minimum_offer)
        and framework.filters.pass_free(free)
    )


# -- Taking -------------------------------------------------------------------------------------------------------------


def _grace_over(c: Cluster, revocation: Revocation, now: float) -> None:
    """Kill what was not given up, the latest launched first. The revocation stays listed until these tasks have ended."""
    c.revocations.remove(revocation)
    framework, victim, entitlements = revocation.framework, revocation.victim, c.entitlements
    if entitlements is None or framework.ended:
        return
    held = holds(c, victim)
    given_up = {
        name: min(amount, max(0, revocation.held.get(name, 0) - held.get(name, 0)))
        for name, amount in revocation.demanded.items()
    }
    _book(c, victim, given_up)
    if not entitlements.is_under(framework.framework_id):
        c.log(f"framework {framework.framework_id} is no longer under its guarantee: no task is revoked")
        return
    if framework.framework_id not in c.wanting:
        return
    left = {name: amount - given_up[name] for name, amount in revocation.demanded.items()}
    killed: list[Task] = []
    for task in revocation.tasks:
        amount = task.resources.quantities()
        if victim.tasks.get(task.task_id) is not task or task.kill is not None:
            continue
        if not any(left[name] > 0 and amount.get(name) for name in left):
            continue
        if not _is_above(entitlements, victim, held):
            break
        kill(c, task, c.settings.operator_grace_s, Reason.REVOKED)
        killed.append(task)
        c.counts.revocation_kills += 1
        _add(held, amount, -1)
        _add(left, amount, -1)
        _book(c, victim, amount)
    c.log(f"framework {victim.framework_id} loses {len(killed)} tasks to {framework.framework_id}", "warning")
    if killed:
        amount = _sum(task.resources for task in killed)
        revocation.tasks, revocation.is_killing = killed, True
        revocation.demanded = {name: amount.get(name, 0) for name in revocation.demanded}
        c.revocations.append(revocation)


def _book(c: Cluster, victim: Framework, amounts: Mapping[str, int]) -> None:
    """What the victim has given up for one framework counts for no other."""
    for other in c.revocations:
        if other.victim is victim and not other.is_killing:
            _add(other.held, amounts, -1)


def _forget_ended(c: Cluster) -> None:
    """Remove killed tasks that have ended: what they held has been offered."""
    for revocation in [each for each in c.revocations if each.is_killing]:
        alive = revocation.victim.tasks
        revocation.tasks = [task for task in revocation.tasks if alive.get(task.task_id) is task]
        amount = _sum(task.resources for task in revocation.tasks)
        revocation.demanded = {name: amount.get(name, 0) for name in revocation.demanded}
        if not revocation.tasks:
            c.revocations.remove(revocation)


# -- Holdings -----------------------------------------------------------------------------------------------------------


def holds(c: Cluster, framework: Framework) -> Quantities:
    """What a framework's executors and tasks hold, without tasks that are being killed. Offers do not count."""
    held = dict(c.allocator.held(framework.framework_id))
    for offer in framework.offers.values():
        _add(held, offer.resources.quantities(), -1)
    for task in framework.tasks.values():
        if task.kill is not None:
            _add(held, task.resources.quantities(), -1)
    return held


def _is_above(entitlements: Entitlements, framework: Framework, held: Mapping[str, int]) -> bool:
    guaranteed = entitlements.guaranteed(framework.framework_id)
    if not guaranteed:
        return any(amount > 0 for amount in held.values())
    return any(held.get(name, 0) > amount for name, amount in guaranteed.items())


def _sum(amounts: Iterable[Resources]) -> Quantities:
    whole: Quantities = {}
    for amount in amounts:
        _add(whole, amount.quantities(), 1)
    return whole


def _add(account: Quantities, amounts: Mapping[str, int], sign: int) -> None:
    for name, amount in amounts.items():
        account[name] = account.get(name, 0) + sign * amount
