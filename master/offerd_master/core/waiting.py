"""Why a framework waits: what stands between it and the resources that it wants, as a person would find out."""

from __future__ import annotations

from offerd import operator_messages as om
from offerd import slots
from offerd.ids import PeerID
from offerd.resources import Resources, format_scalar
from offerd.screen_text import printable
from offerd_master.core import offers, starvation
from offerd_master.core.pool import Pool
from offerd_master.core.starvation import CAUSES
from offerd_master.core.state import Cluster, Framework, Slave, SlaveState

_REFUSED = frozenset({"no_offer_fits", "long_task_cap_reached"})
_SOONEST = ("not_yet", "offered", "no_scheduler", "wants_nothing")
"""Of what keeps several slaves from the framework, that which says most of what will happen."""


def explain_waiting(c: Cluster, peer: PeerID, message: om.ExplainWaiting, now: float) -> None:
    why, text = explain(c, c.frameworks.get(message.framework_id), message.wanted, message.time_limit_s, now)
    c.send(peer, om.Waiting(why, text))


def explain(
    c: Cluster, framework: Framework | None, wanted: Resources, time_limit_s: float | None, now: float
) -> tuple[str, str]:
    """From what will never change to what will change soonest: each step keeps the slaves that pass it."""
    slaves = [s for s in c.slaves.values() if s.state is SlaveState.ACTIVE and s.peer is not None]
    if not slaves:
        return "no_slaves", "the cluster has no slaves; start one with `offerd slave`"
    large = [slave for slave in slaves if slave.total.covers(wanted)]
    if not large:
        largest = max(slaves, key=lambda slave: (slave.total.millicpus, slave.total.mem_bytes))
        return (
            "no_slave_large_enough",
            f"no slave has {printable(str(wanted))}; the largest has {printable(_scalars(largest.total))}",
        )
    quantities = wanted.quantities()
    fitting = [s for s in large if not _is_long(s, time_limit_s) or slots.fits({}, s.long_cap, quantities)]
    if not fitting:
        return "long_task_cap", _cap_text(large[0], "no slave lets long tasks hold as much")
    fitting = [slave for slave in fitting if not slave.is_disk_full]
    if not fitting:
        return "disk_full", "the disk of every slave that is large enough is full"
    if framework is not None:
        fitting = [slave for slave in fitting if not offers.is_filtered(framework, slave, slave.total)]
        if not fitting:
            return "filtered", "the framework's own filters exclude every slave that is large enough"
    roomy = [slave for slave in fitting if _room(framework, slave).covers(wanted)]
    if not roomy:
        return "others_share", _holders(c, framework, fitting)
    capped = [
        s for s in roomy if not _is_long(s, time_limit_s) or slots.fits(s.long_used, s.long_cap, quantities)
    ]
    if not capped:
        return "long_task_cap", _cap_text(
            roomy[0], "the part for long tasks is full on every slave with room"
        )
    if framework is None:
        return "not_yet", CAUSES["not_yet"]
    if not any(_limit_room(c, framework, slave).covers(wanted) for slave in capped):
        return (
            "limit_reached",
            "its limit leaves less than that; it, or others under the limit, must give back",
        )
    found = [starvation.why_not(c, framework, slave, now) for slave in capped]
    why = next((why for why in _SOONEST if why in found), "")
    refused = [slave for slave, other in zip(capped, found, strict=True) if other in _REFUSED]
    if refused and not why:
        soonest_s = min(framework.refusals[slave.slave_id].until for slave in refused) - now
        return "refused", f"the framework has refused the slaves with room, for {soonest_s:.1f} s more"
    why = why or found[0]
    return ("not_yet" if why == "offered" else why), CAUSES[why]


def _limit_room(c: Cluster, framework: Framework, slave: Slave) -> Pool:
    """What of the slave the framework's limit lets it have, with what it is offered there."""
    room = Pool(offers.cut_to_limit(c, framework, slave.free.freeze()))
    for offer in slave.offers.values():
        if offer.framework is framework:
            room.give(offer.resources)
    return room


def _is_long(slave: Slave, time_limit_s: float | None) -> bool:
    return slots.is_long(time_limit_s, slave.info.short_limit_s)


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


def _cap_text(slave: Slave, what: str) -> str:
    return (
        f"{what}: tasks without a time limit may hold {slave.info.long_fraction:.0%} of a slave; "
        f"a limit of at most {slave.info.short_limit_s:g} s makes a task short"
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
