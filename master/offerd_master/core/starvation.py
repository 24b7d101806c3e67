"""Who has less than its fair share, for how long, and why: `offerd explain`.

A framework is under its share while it wants offers and holds less than its weight gives it among all that want or hold
something. That is looked at with every round of pings, so "how long" is right to within one of these.

Why, is counted over the slaves: each stands under the first thing that keeps it from the framework.
"""

from __future__ import annotations

from collections.abc import Iterable

from offerd import operator_messages as om
from offerd import slots
from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd.screen_text import printable
from offerd_master.core import offers
from offerd_master.core.caller import Caller
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.state import Cluster, Framework, Slave, SlaveState

_TOLERANCE = 1e-9

CAUSES = {
    "unreachable": "they are drained, deactivated, or cannot be reached",
    "disk_full": "their disks are full",
    "offered": "offered to it: it is thinking about them",
    "filtered": "its filters exclude them",
    "offered_to_others": "others are thinking about what is free there",
    "in_use": "nothing is free there",
    "minimum_offer_not_free": "less is free than the slave's minimum offer",
    "filters_ask_for_more": "less is free than its filters ask for",
    "limit_reached": "there is room, but it holds as much as its limit allows",
    "no_scheduler": "there is room, but it has no scheduler that could be offered it",
    "long_task_cap_reached": "it declined what is free there; of one resource or more long tasks may take nothing",
    "no_offer_fits": "it declined what is free there, so it fits none of its tasks",
    "wants_nothing": "there is room, but it has said that it needs no offers",
    "not_yet": "there is room; an offer is on its way",
}
"""Every cause and what it means, in the order in which a slave is held against them."""


def observe(c: Cluster, now: float) -> None:
    """Note who is under its share now."""
    since = c.under_share_since
    c.under_share_since = {framework_id: since.get(framework_id, now) for framework_id in _under_share(c)}


def _under_share(c: Cluster) -> Iterable[FrameworkID]:
    if not c.wanting:
        return []
    allocator, fair = c.allocator, c.allocator.fair_shares()
    return [fid for fid in c.wanting if allocator.share(fid) < fair.get(fid, 0.0) - _TOLERANCE]


def explain_framework(c: Cluster, caller: Caller, message: om.ExplainFramework, now: float) -> None:
    """Answered by `Explanation`, of the framework with this id, or the one with this name."""
    wanted = message.framework
    found = c.named(caller, wanted)
    if len(found) == 1:
        c.send(caller.peer, _explanation(c, found[0], now))
        return
    shown = printable(wanted)
    ids = ", ".join(framework.framework_id for framework in found[:10])
    problem = (
        f"several frameworks are called {shown}: {ids}" if found else f"no framework {shown} is registered"
    )
    c.send(caller.peer, om.Explanation(problem=problem))


def _explanation(c: Cluster, framework: Framework, now: float) -> om.Explanation:
    framework_id, entitlements = framework.framework_id, c.entitlements
    fair = c.allocator.fair_shares().get(framework_id, 0.0)
    share = c.allocator.share(framework_id)
    is_under = framework_id in c.wanting and share < fair - _TOLERANCE
    under_since = c.under_share_since.get(framework_id, now)
    guaranteed = entitlements.guaranteed(framework_id) if entitlements is not None else {}
    room = entitlements.room(framework_id) if entitlements is not None else None
    shortage = c.shortages.get(framework_id)
    counts: dict[str, int] = {}
    for slave in c.slaves.values():
        why = why_not(c, framework, slave, now)
        counts[why] = counts.get(why, 0) + 1
    return om.Explanation(
        framework_id=framework_id,
        name=framework.info.name[:MAX_TEXT],
        role=framework.info.role[:MAX_TEXT],
        state="ended" if framework.ended else "active" if framework.peer is not None else "disconnected",
        needs_offers=framework.needs_offers,
        share=share,
        fair_share=fair,
        under_share_s=now - under_since if is_under else None,
        guaranteed=Resources(dict(guaranteed)),
        under_guarantee_s=now - shortage.since if shortage is not None else None,
        limit_room=dict(room) if room is not None else None,
        revoking=sum(len(r.tasks) for r in c.revocations if r.framework is framework),
        being_revoked=sum(len(r.tasks) for r in c.revocations if r.victim is framework),
        causes=[om.Cause(why, counts[why], text) for why, text in CAUSES.items() if why in counts],
    )


def why_not(c: Cluster, framework: Framework, slave: Slave, now: float) -> str:
    """The first thing that stands between this slave and the framework."""
    if slave.state is not SlaveState.ACTIVE or slave.peer is None or slave.is_deaf:
        return "unreachable"
    if slave.is_disk_full:
        return "disk_full"
    offered_to = {offer.framework for offer in slave.offers.values()}
    if framework in offered_to:
        return "offered"
    if offers.is_filtered(framework, slave, slave.total):
        return "filtered"
    if not slave.is_worth_offering():
        if offered_to:
            return "offered_to_others"
        return "minimum_offer_not_free" if slave.free.freeze() else "in_use"
    free = slave.free.freeze()
    if not framework.filters.pass_free(free):
        return "filters_ask_for_more"
    offerable = offers.cut_to_limit(c, framework, free)
    if not offers.fits_limit(c, framework, slave) or not framework.filters.pass_free(offerable):
        return "limit_reached"
    if framework.peer is None:
        return "no_scheduler"
    if offers.has_refused(framework, slave, offerable, now):
        left = slots.left(slave.long_used, slave.long_cap, offerable.quantities())
        is_capped = any(slave.long_cap.get(name) and not amount for name, amount in left.items())
        return "long_task_cap_reached" if is_capped else "no_offer_fits"
    return "not_yet" if framework.needs_offers else "wants_nothing"
