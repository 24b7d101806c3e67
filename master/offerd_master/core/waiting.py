"""Why a framework waits: what stands between it and the resources that it wants, as a person would find out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from offerd import operator_messages as om
from offerd import slots
from offerd.filters import CompiledFilters
from offerd.messages import Filters
from offerd.resources import Resources, format_scalar
from offerd.screen_text import printable
from offerd_master.core import eligibility
from offerd_master.core.caller import Caller
from offerd_master.core.eligibility import REASONS
from offerd_master.core.pool import Pool
from offerd_master.core.state import Cluster, Framework, Slave

_REFUSED = frozenset({"no_offer_fits", "long_task_cap_reached"})
MANY = 1 << 40
"""More tasks than anybody asks about."""
_SOONEST = (
    "not_yet",
    "offered",
    "ended",
    "no_scheduler",
    "scheduler_unresponsive",
    "offers_held_back",
    "wants_nothing",
)
"""Of what keeps several slaves from the framework, that which says most of what will happen."""


def explain_waiting(c: Cluster, caller: Caller, message: om.ExplainWaiting, now: float) -> None:
    c.send(caller.peer, explain(c, c.frameworks.get(message.framework_id), message, now))


def explain(c: Cluster, framework: Framework | None, asked: om.ExplainWaiting, now: float) -> om.Waiting:
    """From what will never change to what will change soonest: each step keeps the slaves that pass it, with how many of the
    tasks they have room for.
    """
    slaves = [slave for slave in c.slaves.values() if slave.why_out() != "unreachable"]
    if not slaves and c.slaves:
        who = f"none of the {len(c.slaves)} slaves takes tasks"
        text = f"{who}: they are drained or deactivated (`offerd activate` lets them in again), unresponsive, or away"
        return om.Waiting("no_slaves", text)
    if not slaves:
        return om.Waiting("no_slaves", "the cluster has no slaves; start one with `offerd slave`")
    wanted = asked.wanted
    large = _Places(asked, {slave: _copies(Pool(slave.total), wanted) for slave in slaves})
    if not large.are_enough:
        return _too_large(slaves, large, wanted)
    lasting = large.cut(lambda slave: _long_copies(slave, {}, asked))
    if not lasting.are_enough:
        return _capped(large, lasting, "no slave lets long tasks hold as much")
    fitting = lasting.keep(lambda slave: slave.may_be_offered)
    if not fitting.are_enough:
        return om.Waiting("disk_full", f"{fitting.told}the disks of slaves that are large enough are full")
    if framework is not None:
        passing = fitting.keep(lambda slave: not eligibility.is_filtered(framework, slave, slave.total))
        if not passing.are_enough:
            return om.Waiting("filtered", passing.told + _filtered(framework, list(fitting)))
        fitting = passing
    roomy = fitting.cut(lambda slave: _copies(_room(framework, slave), wanted))
    if not roomy.are_enough:
        return om.Waiting("others_share", roomy.told + _holders(c, framework, list(fitting)))
    now_free = roomy.cut(lambda slave: _long_copies(slave, slave.long_used, asked))
    if not now_free.are_enough:
        return _capped(roomy, now_free, "the part for long tasks is full on every slave with room")
    if framework is None:
        return om.Waiting("not_yet", REASONS["not_yet"])
    within = now_free.cut(lambda slave: _copies(_limit_room(c, framework, slave), wanted))
    if min(within.number, _within_limit(c, framework, wanted, within.count)) < within.count:
        return om.Waiting(
            "limit_reached", "its limit leaves less than that; it, or others under the limit, must give back"
        )
    return _soonest(c, framework, list(within), now)


class _Places:
    """How many of the tasks that were asked about each slave has room for, of those that have any."""

    def __init__(self, asked: om.ExplainWaiting, found: dict[Slave, int]) -> None:
        self._asked = asked
        self.count = max(1, asked.count)
        self.per_slave = most = asked.per_slave or self.count
        self.would_be_enough = sum(found.values()) >= self.count
        """Were there no `per_slave`."""
        self._found = {slave: min(number, most) for slave, number in found.items() if number > 0}
        self.number = sum(self._found.values())

    def __iter__(self) -> Iterator[Slave]:
        return iter(self._found)

    @property
    def slaves(self) -> int:
        return len(self._found)

    @property
    def are_enough(self) -> bool:
        return self.number >= self.count

    @property
    def told(self) -> str:
        """Of several: for how many there is room."""
        return f"room for {self.number} of {self.count}: " if self.count > 1 else ""

    def cut(self, most: Callable[[Slave], int]) -> _Places:
        """Each slave has room for at most so many."""
        return _Places(self._asked, {slave: min(n, most(slave)) for slave, n in self._found.items()})

    def keep(self, is_kept: Callable[[Slave], bool]) -> _Places:
        return _Places(self._asked, {slave: n for slave, n in self._found.items() if is_kept(slave)})


def _filtered(framework: Framework, slaves: list[Slave]) -> str:
    """By what these slaves, or too many of them, are excluded."""
    wanted = framework.filters.filters
    constraints = Filters(
        attributes=wanted.attributes,
        attributes_exist=wanted.attributes_exist,
        attributes_match=wanted.attributes_match,
    )
    compiled = CompiledFilters(constraints)
    if any(compiled.pass_slave(slave.slave_id, slave.info.attributes) for slave in slaves):
        return "the framework's own filters exclude slaves that are large enough"
    words = [f"{name}={value}" for name, value in (wanted.attributes | wanted.attributes_match).items()]
    attributes = ",".join([*words, *wanted.attributes_exist])
    return f"no slave that is large enough has the attributes {printable(attributes)}"


def _copies(room: Pool, wanted: Resources) -> int:
    """How many tasks of this size fit. Of those that ask for certain ports or the like no two fit side by side."""
    if wanted.ranges or wanted.sets:
        return int(room.covers(wanted))
    amounts = [(name, amount) for name, amount in wanted.scalars.items() if amount]
    return min((room.scalars.get(name, 0) // amount for name, amount in amounts), default=MANY)


def _long_copies(slave: Slave, held: Mapping[str, int], asked: om.ExplainWaiting) -> int:
    """How many of them fit into the part for long tasks, of which so much is held; all of them if they are short there."""
    if not slots.is_long(asked.time_limit_s, slave.info.short_limit_s):
        return MANY
    amounts = [(name, amount) for name, amount in asked.wanted.quantities().items() if amount]
    cap = slave.long_cap
    return min(
        (max(0, cap.get(name, 0) - held.get(name, 0)) // amount for name, amount in amounts), default=MANY
    )


def _within_limit(c: Cluster, framework: Framework, wanted: Resources, count: int) -> int:
    """How many of them the framework's limit leaves in all, with what it is offered."""
    room = c.entitlements.room(framework.framework_id) if c.entitlements is not None else None
    if room is None:
        return count
    left = dict(room)
    for offer in framework.offers.values():
        for name, amount in offer.resources.quantities().items():
            if name in left:
                left[name] += amount
    amounts = wanted.quantities()
    return min((left[name] // amounts[name] for name in left if amounts.get(name)), default=count)


def _too_large(slaves: list[Slave], large: _Places, wanted: Resources) -> om.Waiting:
    size = printable(str(wanted))
    if large.would_be_enough:
        most = f"at most {large.per_slave} on one slave: only {large.slaves} have room for {size}"
        return om.Waiting("too_few_to_spread", f"{large.told}{most}")
    if large.number:
        return om.Waiting("too_few_slaves", f"{large.told}all slaves together have no more places of {size}")
    largest = max(slaves, key=lambda slave: (slave.total.millicpus, slave.total.mem_bytes))
    return om.Waiting(
        "no_slave_large_enough",
        f"no slave has {size}; the largest has {printable(_scalars(largest.total))}",
    )


def _capped(before: _Places, after: _Places, what: str) -> om.Waiting:
    """Long tasks may not have what there is."""
    slave = next(iter(before))
    limit_s = slave.info.short_limit_s
    text = (
        f"{after.told or what + ': '}tasks without a time limit of at most {limit_s:g} s may together hold "
        f"{slave.info.long_fraction:.0%} of a slave, and one cpu at least"
    )
    return om.Waiting("long_task_cap", text, limit_s)


def _soonest(c: Cluster, framework: Framework, slaves: list[Slave], now: float) -> om.Waiting:
    """These have room, and it may have that."""
    found = [eligibility.reason_against(c, framework, slave, now) for slave in slaves]
    why = next((why for why in _SOONEST if why in found), "")
    refused = [slave for slave, other in zip(slaves, found, strict=True) if other in _REFUSED]
    if refused and not why:
        soonest_s = min(framework.refusals[slave.slave_id].until for slave in refused) - now
        text = f"the framework has refused the slaves with room, for {soonest_s:.1f} s more"
        return om.Waiting("refused", text)
    why = why or found[0]
    return om.Waiting("not_yet" if why == "offered" else why, REASONS[why])


def _limit_room(c: Cluster, framework: Framework, slave: Slave) -> Pool:
    """What of the slave the framework's limit lets it have, with what it is offered there."""
    room = Pool(eligibility.cut_to_limit(c, framework, slave.free.freeze()))
    for offer in slave.offers.values():
        if offer.framework is framework:
            room.give(offer.resources)
    return room


def _room(framework: Framework | None, slave: Slave) -> Pool:
    """What is free there or offered to the framework itself."""
    room = Pool(slave.free.freeze())
    for offer in slave.offers.values():
        if offer.framework is framework:
            room.give(offer.resources)
    return room


def _scalars(total: Resources) -> str:
    return ",".join(f"{name}={format_scalar(name, amount)}" for name, amount in total.scalars.items()) or str(
        total
    )


def _holders(c: Cluster, framework: Framework | None, slaves: list[Slave]) -> str:
    """Who holds the slaves on which this could run."""
    own = others = 0
    for slave in slaves:
        for task in slave.tasks:
            if task.framework is framework:
                own += 1
            else:
                others += 1
    thinking = sum(offer.framework is not framework for slave in slaves for offer in slave.offers.values())
    parts = [f"{others} tasks of other frameworks", f"{own} of this one"]
    if thinking:
        parts.append(f"{thinking} offers that others are thinking about")
    return f"all slaves large enough are in use: {', '.join(parts)}"
