"""Amounts in explanations: how much is needed, how much is free, and who holds the rest. All of it is bounded and short.

Only scalars are counted. Of ports and sets, a framework may need particular ones, so a number would say little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from offerd import operator_messages as om
from offerd.resources import BYTE_SCALARS, UNITS, Resources, format_scalar
from offerd.values.screen_text import printable
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.pool import Pool, cut_quantities
from offerd_master.core.state import Framework, Slave

MAX_HOLDERS = 8
"""Holders listed for one place; the others are summed up in one more entry."""
_HOLDERS_IN_WORDS = 2
_NAME_IN_WORDS = 24
_DEFAULT_ROLE = "*"

Amounts = Mapping[str, int]


class Nearest(NamedTuple):
    """The slave that lacks least of what is needed, and how much of that it has free."""

    slave: Slave
    free: dict[str, int]


def nearest(slaves: Iterable[Slave], needed: Amounts, free_of: Callable[[Slave], Amounts]) -> Nearest:
    """There must be at least one slave."""

    def parts(slave: Slave) -> tuple[float, float]:
        free = free_of(slave)
        found = [min(max(free.get(name, 0), 0) / amount, 1.0) for name, amount in needed.items()]
        return min(found, default=1.0), sum(found)

    slave = max(slaves, key=parts)
    return Nearest(slave, _positive(free_of(slave)))


def missing(needed: Amounts, free: Amounts) -> list[str]:
    """The names of which too little is free; all names if the amounts suffice."""
    return [name for name, amount in needed.items() if free.get(name, 0) < amount] or list(needed)


def free_sum(slaves: Iterable[Slave]) -> dict[str, int]:
    """The sum of what is free on these slaves."""
    free: dict[str, int] = {}
    for slave in slaves:
        _add(free, _positive(slave.free.scalars))
    return cut_quantities(free)


def holders_there(
    c: Cluster,
    caller: Caller,
    framework: Framework | None,
    slaves: Iterable[Slave],
    names: Iterable[str] = (),
    *,
    only_long: bool = False,
) -> list[om.Holding]:
    """Who holds these resources (all, if none is named) on these slaves, the largest first. Offers count, except those to
    the framework itself.
    """
    held: dict[Framework, dict[str, int]] = {}
    there: dict[str, int] = {}
    for slave in slaves:
        _add(there, slave.total.scalars)
        for task in slave.tasks:
            if task.is_long or not only_long:
                _add(held.setdefault(task.framework, {}), task.resources.scalars)
        if only_long:
            continue
        for framework_id, executors in slave.executors.items():
            for executor in executors.values():
                _add(held.setdefault(c.frameworks[framework_id], {}), executor.resources.scalars)
        for offer in slave.offers.values():
            if offer.framework is not framework:
                _add(held.setdefault(offer.framework, {}), offer.resources.scalars)
    return _holdings(caller, framework, held, _of(there, names))


def holders_under_limit(
    c: Cluster, caller: Caller, framework: Framework, names: Iterable[str]
) -> list[om.Holding]:
    """Who holds these resources under the limits that bind the framework; others may share a limit with it."""
    if c.entitlements is None:
        return []
    members = c.entitlements.under_its_limits(framework.framework_id)
    held = {c.frameworks[each]: dict(c.allocator.held(each)) for each in members if each in c.frameworks}
    return _holdings(caller, framework, held, _of(c.total, names))


def _holdings(
    caller: Caller, framework: Framework | None, held: Mapping[Framework, Amounts], there: Amounts
) -> list[om.Holding]:
    """Grouped by framework, or by role where several share one. Frameworks that the asker may not see have no name. Only
    resources that are in `there` are counted.
    """
    others = [each for each in held if each is not framework and caller.sees(each.framework_id)]
    roles = [each.info.role for each in others]
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for each, amounts in held.items():
        name, role = each.info.name, each.info.role
        if each is framework:
            who = ("this", name)
        elif not caller.sees(each.framework_id):
            who = ("hidden", "")
        elif role != _DEFAULT_ROLE and roles.count(role) > 1:
            who = ("role", role)
        else:
            who = ("framework", name)
        mine = {name: amount for name, amount in amounts.items() if amount > 0 and name in there}
        _add(groups.setdefault(who, {}), mine)
    ranked = sorted(
        ((who, amounts) for who, amounts in groups.items() if amounts),
        key=lambda group: -max(amount / there[name] for name, amount in group[1].items()),
    )
    rest: dict[str, int] = {}
    for _, amounts in ranked[MAX_HOLDERS:]:
        _add(rest, amounts)
    shown = [
        om.Holding(kind, name, cut_quantities(amounts)) for (kind, name), amounts in ranked[:MAX_HOLDERS]
    ]
    return [*shown, om.Holding("rest", "", cut_quantities(rest))] if rest else shown


# -- In words -----------------------------------------------------------------------------------------------------------


def words(amounts: Amounts, names: Iterable[str]) -> str:
    """`cpus=2,mem=6G`: the amount for each of these names, zeros included."""
    return printable(",".join(f"{name}={_short(name, amounts.get(name, 0))}" for name in names))


def holders_words(found: list[om.Holding], names: Iterable[str]) -> str:
    """`cpus=3 by framework "grid", cpus=3 by role "batch" and 4 others`; empty where nobody holds anything of these names."""
    wanted = list(names)
    parts = []
    for holding in found:
        mine = [name for name in wanted if holding.amounts.get(name)]
        if mine:
            parts.append(f"{words(holding.amounts, mine)} by {_who(holding)}")
    shown = ", ".join(parts[:_HOLDERS_IN_WORDS])
    more = len(parts) - _HOLDERS_IN_WORDS
    return f"{shown} and {more} other{'s' * (more > 1)}" if more > 0 else shown


def _who(holding: om.Holding) -> str:
    if holding.kind == "this":
        return "this framework"
    if holding.kind in ("framework", "role"):
        return f'{holding.kind} "{printable(holding.name, _NAME_IN_WORDS)}"'
    return "others"


def _short(name: str, amount: int) -> str:
    """Bytes are rounded down to three or four digits: nobody needs them exactly here."""
    if name in BYTE_SCALARS:
        for unit in ("P", "T", "G", "M", "K"):
            if amount >= 10 * UNITS[unit] or (amount >= UNITS[unit] and amount % UNITS[unit] == 0):
                return f"{amount // UNITS[unit]}{unit}"
    return format_scalar(name, amount) if amount else "0"


# -- Sums ---------------------------------------------------------------------------------------------------------------


def with_own_offers(framework: Framework | None, slave: Slave) -> Pool:
    """What is free there or offered to the framework itself."""
    room = Pool(slave.free.freeze())
    for offer in slave.offers.values():
        if offer.framework is framework:
            room.give(offer.resources)
    return room


def several(wanted: Resources, count: int) -> dict[str, int]:
    """What `count` tasks need together."""
    return cut_quantities({name: amount * count for name, amount in wanted.scalars.items()})


def _of(amounts: Amounts, names: Iterable[str]) -> dict[str, int]:
    wanted = list(names) or list(amounts)
    return {name: amounts[name] for name in wanted if amounts.get(name)}


def _positive(amounts: Amounts) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _add(account: dict[str, int], amounts: Amounts) -> None:
    for name, amount in amounts.items():
        account[name] = account.get(name, 0) + amount
