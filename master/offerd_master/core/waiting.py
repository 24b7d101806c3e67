"""Why a framework waits: what stands between it and the resources that it wants, in words for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from offerd import operator_messages as om
from offerd.core import slots
from offerd.core.filters import CompiledFilters
from offerd.messages import Filters
from offerd.resources import Resources
from offerd.values.screen_text import printable
from offerd_master.core import amounts, eligibility
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.eligibility import REASONS
from offerd_master.core.pool import Pool, cut_quantities
from offerd_master.core.state import Framework, Slave

_REFUSED = frozenset({"no_offer_fits", "long_task_cap_reached"})
MANY = 1 << 40
"""More tasks than any question is about."""
_HOST_IN_WORDS = 32
_SOONEST = (
    "not_yet",
    "offered",
    "ended",
    "no_scheduler",
    "scheduler_unresponsive",
    "offers_held_back",
    "wants_nothing",
)
"""If several slaves have different reasons, the one to report: that which says most about what will happen next."""


def explain_waiting(c: Cluster, caller: Caller, message: om.ExplainWaiting, now: float) -> None:
    answer = explain(c, caller, c.frameworks.get(message.framework_id), message, now)
    needed = amounts.several(message.wanted, max(1, message.count))
    c.send(caller.peer, msgspec.structs.replace(answer, needed=needed))


def explain(
    c: Cluster, caller: Caller, framework: Framework | None, asked: om.ExplainWaiting, now: float
) -> om.Waiting:
    """Go from reasons that never change to those that change soonest. Each step keeps the slaves that pass it, with the number
    of tasks for which they have room.
    """
    slaves = [slave for slave in c.slaves.values() if slave.why_out() != "unreachable"]
    if not slaves and c.slaves:
        who = f"none of the {len(c.slaves)} slaves takes tasks"
        text = f"{who}: they are drained or deactivated (`offerd activate` ends that), unresponsive, or not connected"
        return om.Waiting("no_slaves", text)
    if not slaves:
        return om.Waiting("no_slaves", "the cluster has no slaves; start one with `offerd slave`")
    wanted = asked.wanted
    large = _Places(asked, {slave: _copies(Pool(slave.total), wanted) for slave in slaves})
    if not large.are_enough:
        return _too_large(slaves, large, wanted)
    lasting = large.cut(lambda slave: _long_copies(slave, {}, asked))
    if not lasting.are_enough:
        return _never_long(large, lasting, wanted)
    fitting = lasting.keep(lambda slave: slave.may_be_offered)
    if not fitting.are_enough:
        return om.Waiting("disk_full", f"{fitting.prefix}the disks of slaves that are large enough are full")
    if framework is not None:
        passing = fitting.keep(lambda slave: not eligibility.is_filtered(framework, slave, slave.total))
        if not passing.are_enough:
            return om.Waiting("filtered", passing.prefix + _filtered(framework, list(fitting)))
        fitting = passing
    there = _There(c, caller, framework, asked)
    roomy = fitting.cut(lambda slave: _copies(amounts.with_own_offers(framework, slave), wanted))
    if not roomy.are_enough:
        return there.in_use(fitting, roomy)
    now_free = roomy.cut(lambda slave: _long_copies(slave, slave.long_used, asked))
    if not now_free.are_enough:
        return there.long_tasks(roomy, now_free)
    if framework is None:
        return om.Waiting("not_yet", REASONS["not_yet"])
    within = now_free.cut(lambda slave: _copies(_limit_room(c, framework, slave), wanted))
    if min(within.number, _within_limit(c, framework, wanted, within.count)) < within.count:
        return there.limited(framework, within)
    return there.soonest(framework, list(within), now)


class _Places:
    """For how many of the requested tasks each slave has room. Slaves without room are left out."""

    def __init__(self, asked: om.ExplainWaiting, found: dict[Slave, int]) -> None:
        self._asked = asked
        self.count = max(1, asked.count)
        self.per_slave = most = asked.per_slave or self.count
        self.would_be_enough = sum(found.values()) >= self.count
        """Whether there would be room for all without the `per_slave` limit."""
        self._found = {slave: min(number, most) for slave, number in found.items() if number > 0}
        self.number = sum(self._found.values())

    def __iter__(self) -> Iterator[Slave]:
        return iter(self._found)

    def __contains__(self, slave: Slave) -> bool:
        return slave in self._found

    @property
    def slaves(self) -> int:
        return len(self._found)

    @property
    def are_enough(self) -> bool:
        return self.number >= self.count

    @property
    def prefix(self) -> str:
        """If the question is about several tasks: for how many of them there is room."""
        return f"room for {self.number} of {self.count}: " if self.count > 1 else ""

    def cut(self, most: Callable[[Slave], int]) -> _Places:
        """Limit the number of each slave."""
        return _Places(self._asked, {slave: min(n, most(slave)) for slave, n in self._found.items()})

    def keep(self, is_kept: Callable[[Slave], bool]) -> _Places:
        return _Places(self._asked, {slave: n for slave, n in self._found.items() if is_kept(slave)})


def _filtered(framework: Framework, slaves: list[Slave]) -> str:
    """Which of its filters exclude the slaves."""
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
    """How many tasks of this size fit. Two tasks that ask for particular ports or set members never fit side by side."""
    if wanted.ranges or wanted.sets:
        return int(room.covers(wanted))
    return min((room.scalars.get(name, 0) // amount for name, amount in wanted.scalars.items()), default=MANY)


def _long_copies(slave: Slave, held: Mapping[str, int], asked: om.ExplainWaiting) -> int:
    """How many of them fit into what is left of the part for long tasks; `MANY` if they are short on this slave."""
    if not slots.is_long(asked.time_limit_s, slave.info.short_limit_s):
        return MANY
    cap, quantities = slave.long_cap, asked.wanted.quantities()
    return min(
        (max(0, cap.get(name, 0) - held.get(name, 0)) // amount for name, amount in quantities.items()),
        default=MANY,
    )


def _within_limit(c: Cluster, framework: Framework, wanted: Resources, count: int) -> int:
    """How many of them, of `count`, the framework's limit leaves in all."""
    left = _under_limit(c, framework)
    if left is None:
        return count
    quantities = wanted.quantities()
    return min((left[name] // quantities[name] for name in left if quantities.get(name)), default=count)


def _under_limit(c: Cluster, framework: Framework) -> dict[str, int] | None:
    """What the framework's limit leaves, plus its own offers; None if it has no limit."""
    room = c.entitlements.room(framework.framework_id) if c.entitlements is not None else None
    if room is None:
        return None
    left = dict(room)
    for offer in framework.offers.values():
        for name, amount in offer.resources.quantities().items():
            if name in left:
                left[name] += amount
    return left


def _too_large(slaves: list[Slave], large: _Places, wanted: Resources) -> om.Waiting:
    size = printable(str(wanted))
    if large.would_be_enough:
        most = f"at most {large.per_slave} on one slave: only {large.slaves} have room for {size}"
        return om.Waiting("too_few_to_spread", f"{large.prefix}{most}")
    if large.number:
        return om.Waiting(
            "too_few_slaves", f"{large.prefix}all slaves together have no more places of {size}"
        )
    found = amounts.nearest(slaves, wanted.scalars, lambda slave: slave.total.scalars)
    largest = (
        printable(str(found.slave.total)) if _has_lists(wanted) else amounts.words(found.free, wanted.scalars)
    )
    return om.Waiting(
        "no_slave_large_enough", f"no slave has {size}; the largest has {largest} ({_host(found.slave)})"
    )


def _never_long(before: _Places, after: _Places, wanted: Resources) -> om.Waiting:
    """The tasks are more than long tasks may ever hold."""
    found = amounts.nearest(before, wanted.scalars, lambda slave: slave.long_cap)
    most = amounts.words(found.free, wanted.scalars)
    text = f"{after.prefix}{_long_rule(found.slave)}, at most {most} on {_host(found.slave)}"
    return om.Waiting("long_task_cap", text, found.slave.info.short_limit_s, slave=found.slave.info.hostname)


def _long_rule(slave: Slave) -> str:
    info = slave.info
    return (
        f"tasks without a time limit of at most {info.short_limit_s:g} s may together hold "
        f"{info.long_fraction:.0%} of a slave"
    )


class _There:
    """Explains what is missing on which slave, and who holds it."""

    def __init__(
        self, c: Cluster, caller: Caller, framework: Framework | None, asked: om.ExplainWaiting
    ) -> None:
        self._c = c
        self._caller = caller
        self._framework = framework
        self._needed = asked.wanted.scalars
        self._size = printable(str(asked.wanted))

    def in_use(self, fitting: _Places, roomy: _Places) -> om.Waiting:
        """Other frameworks, or its own tasks, hold what it would take."""
        full = [slave for slave in fitting if slave not in roomy]
        if not full:
            holders = amounts.holders_there(self._c, self._caller, self._framework, fitting, self._needed)
            text = f"{roomy.prefix}no slave has {self._size} free once more"
            text += _held(holders, self._needed, "on them")
            return om.Waiting("others_share", text, free=amounts.free_sum(fitting), holders=holders)
        found = amounts.nearest(full, self._needed, self._free)
        who = "no other slave" if roomy.number else "no slave"
        text = f"{roomy.prefix}{who} has {self._size} free"
        return self._on(
            "others_share",
            f"{text}; the most that is free on one is",
            found,
            amounts.missing(self._needed, found.free),
        )

    def long_tasks(self, roomy: _Places, now_free: _Places) -> om.Waiting:
        """Long tasks hold all that they may."""
        full = [slave for slave in roomy if slave not in now_free] or list(roomy)

        def left(slave: Slave) -> dict[str, int]:
            return {name: cap - slave.long_used.get(name, 0) for name, cap in slave.long_cap.items()}

        found = amounts.nearest(full, self._needed, left)
        short = amounts.missing(self._needed, found.free)
        holders = amounts.holders_there(
            self._c, self._caller, self._framework, [found.slave], self._needed, only_long=True
        )
        of_it = amounts.words(found.free, short)
        text = f"{now_free.prefix}{_long_rule(found.slave)}; left of that on {_host(found.slave)}: {of_it}"
        return om.Waiting(
            "long_task_cap",
            text + _held(holders, short, "there"),
            found.slave.info.short_limit_s,
            free=cut_quantities(found.free),
            slave=found.slave.info.hostname,
            holders=holders,
        )

    def limited(self, framework: Framework, within: _Places) -> om.Waiting:
        """Its limit does not let it hold so much."""
        room = _under_limit(self._c, framework) or {}
        needed = {name: amount * within.count for name, amount in self._needed.items() if name in room}
        short = amounts.missing(needed, room)
        holders = amounts.holders_under_limit(self._c, self._caller, framework, room)
        text = f"{within.prefix}its limit leaves {amounts.words(room, short)}, and {amounts.words(needed, short)} is needed"
        return om.Waiting(
            "limit_reached",
            text + _held(holders, short, "under it"),
            free=cut_quantities(room),
            holders=holders,
        )

    def soonest(self, framework: Framework, slaves: list[Slave], now: float) -> om.Waiting:
        """These slaves have room, and the framework may have it: say what happens next."""
        reasons = {slave: eligibility.reason_against(self._c, framework, slave, now) for slave in slaves}
        why = next((why for why in _SOONEST if why in reasons.values()), "")
        refused = [slave for slave, other in reasons.items() if other in _REFUSED]
        if refused and not why:
            soonest_s = min(framework.refusals[slave.slave_id].until for slave in refused) - now
            text = f"the framework has refused the slaves with room, for {soonest_s:.1f} s more"
            return om.Waiting("refused", text)
        why = why or next(iter(reasons.values()))
        those = [slave for slave, other in reasons.items() if other == why]
        least = dict(those[0].minimum_offer) if why == "minimum_offer_not_free" else {}
        if why == "filters_ask_for_more":
            least = framework.filters.filters.minimum.scalars
        if not least:
            return om.Waiting("not_yet" if why == "offered" else why, REASONS[why])
        found = amounts.nearest(those, least, lambda slave: slave.free.scalars)
        names = amounts.missing(least, found.free)
        return self._on(why, f"{REASONS[why]}, {amounts.words(least, names)}:", found, names)

    def _free(self, slave: Slave) -> dict[str, int]:
        return amounts.with_own_offers(self._framework, slave).scalars

    def _on(self, why: str, text: str, found: amounts.Nearest, short: list[str]) -> om.Waiting:
        """With what is free on this slave, and who holds what is missing there."""
        slave = found.slave
        holders = amounts.holders_there(self._c, self._caller, self._framework, [slave], self._needed)
        free = amounts.words(found.free, self._needed)
        return om.Waiting(
            why,
            f"{text} {free} ({_host(slave)}){_held(holders, short, 'there')}",
            free=cut_quantities(found.free),
            slave=slave.info.hostname,
            holders=holders,
        )


def _held(holders: list[om.Holding], names: Iterable[str], where: str) -> str:
    held = amounts.holders_words(holders, names)
    return f"; held {where}: {held}" if held else ""


def _host(slave: Slave) -> str:
    return printable(slave.info.hostname, _HOST_IN_WORDS)


def _has_lists(wanted: Resources) -> bool:
    return bool(wanted.ranges or wanted.sets)


def _limit_room(c: Cluster, framework: Framework, slave: Slave) -> Pool:
    """What the framework's limit lets it have of this slave, plus its own offers there."""
    room = Pool(eligibility.cut_to_limit(c, framework, slave.free.freeze()))
    for offer in slave.offers.values():
        if offer.framework is framework:
            room.give(offer.resources)
    return room
