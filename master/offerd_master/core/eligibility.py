"""Whether a framework may be offered a slave now. Each rule stands here once.

A turn of allocation (`offers`) and everything that explains one (`starvation`, `waiting`) ask the same questions. They are
split so that a turn asks each as seldom as possible:

* about the slave (`Slave.why_out`): when something about it changes;
* about the framework (`Framework.why_not_wanting`): when something about it changes, which keeps `Cluster.wanting`;
* about the cluster (`Cluster.hold_until`) and what is free (`Slave.is_worth_offering`): once a turn, and once for each slave;
* about the pair (`has_room`, `is_unwanted`): for each pair that passes the others, in the order of the allocation module.

`reason_against` asks all of them and returns the first reason, in the order that helps people most.
"""

from __future__ import annotations

from offerd.core import slots
from offerd.resources import Resources
from offerd_master.core.cluster import Cluster
from offerd_master.core.pool import Pool
from offerd_master.core.state import Framework, Slave

REASONS = {
    "ended": "it has ended",
    "unreachable": "they are drained, deactivated, unresponsive, or cannot be reached",
    "disk_full": "their disks are full",
    "offered": "they are offered to it, and it has not answered yet",
    "filtered": "its filters exclude them",
    "offered_to_others": "what is free there is offered to others",
    "in_use": "nothing is free there",
    "minimum_offer_not_free": "less is free than the slave's minimum offer",
    "filters_ask_for_more": "less is free than its filters ask for",
    "limit_reached": "there is room, but it holds as much as its limit allows",
    "no_scheduler": "there is room, but it has no scheduler that could be offered it",
    "scheduler_unresponsive": "there is room, but its scheduler is unresponsive",
    "long_task_cap_reached": "it declined what is free there; long tasks may take nothing more of at least one resource",
    "no_offer_fits": "it declined what is free there, so it fits none of its tasks",
    "wants_nothing": "there is room, but it has said that it needs no offers",
    "offers_held_back": "there is room, but the master pauses its offers: it has just started, or its last turn has failed",
    "not_yet": "there is room; an offer is on its way",
}
"""Every reason with its meaning for the slaves concerned, in the order of precedence. Each except the last keeps the slave from
the framework.
"""


def cut_to_limit(c: Cluster, framework: Framework, free: Resources) -> Resources:
    """What an offer of `free` would hold: `free` itself, or less if the framework's limit leaves less."""
    room = c.entitlements.room(framework.framework_id) if c.entitlements is not None else None
    if room is None or all(amount <= room.get(name, amount) for name, amount in free.scalars.items()):
        return free
    return Pool(free).take_up_to(room)


def has_room(c: Cluster, framework: Framework, slave: Slave) -> bool:
    """Whether the framework may still hold enough for an offer of this slave."""
    return c.entitlements is None or c.entitlements.has_room(framework.framework_id, slave.needs)


def excludes_slave(framework: Framework, slave: Slave) -> bool:
    """Whether the framework's filters exclude this slave, whatever is free there."""
    return not framework.filters.pass_slave(slave.slave_id, slave.info.attributes)


def is_filtered(framework: Framework, slave: Slave, free: Resources) -> bool:
    """Whether the framework's filters exclude this slave or this amount of it."""
    return excludes_slave(framework, slave) or not framework.filters.pass_free(free)


def has_refused(framework: Framework, slave: Slave, offerable: Resources, now: float) -> bool:
    """Whether the framework has lately refused at least as much of this slave."""
    refusal = framework.refusals.get(slave.slave_id)
    return refusal is not None and refusal.until > now and refusal.resources.covers(offerable)


def is_unwanted(framework: Framework, slave: Slave, offerable: Resources, now: float) -> bool:
    """Whether the framework has said, by refusal or filter, that it does not want this much of this slave."""
    return has_refused(framework, slave, offerable, now) or is_filtered(framework, slave, offerable)


def reason_against(c: Cluster, framework: Framework, slave: Slave, now: float) -> str:
    """The first of `REASONS` that keeps this slave from the framework; `not_yet` if none does. Then the next turn (for a slave
    in its batch window, the turn at its end) offers it the slave, unless a framework before it in the module's order
    takes it.
    """
    if framework.ended:
        return framework.why_not_wanting()
    if out := slave.why_out():
        return out
    why = _of_what_is_free(framework, slave) or _of_the_pair(c, framework, slave, now)
    if not why and now < c.hold_until:
        why = "offers_held_back"
    if why and any(offer.framework is framework for offer in slave.offers.values()):
        return "offered"
    return why or "not_yet"


def _of_what_is_free(framework: Framework, slave: Slave) -> str:
    if is_filtered(framework, slave, slave.total):
        return "filtered"
    free = slave.free.freeze()
    if not slave.is_worth_offering():
        if slave.offers:
            return "offered_to_others"
        return "minimum_offer_not_free" if free else "in_use"
    return "" if framework.filters.pass_free(free) else "filters_ask_for_more"


def _of_the_pair(c: Cluster, framework: Framework, slave: Slave, now: float) -> str:
    """What about the framework itself keeps it from what is free there."""
    offerable = cut_to_limit(c, framework, slave.free.freeze())
    if not has_room(c, framework, slave) or is_filtered(framework, slave, offerable):
        return "limit_reached"
    wishes = framework.why_not_wanting()
    if wishes and wishes != "wants_nothing":
        return wishes
    if has_refused(framework, slave, offerable, now):
        left = slots.left(slave.long_used, slave.long_cap, offerable.quantities())
        is_capped = any(slave.long_cap.get(name) and not amount for name, amount in left.items())
        return "long_task_cap_reached" if is_capped else "no_offer_fits"
    return wishes
