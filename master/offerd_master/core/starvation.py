"""Which frameworks have less than their fair share, for how long, and why: `offerd explain`.

A framework is under its share while it wants offers and holds less than its weight gives it among all frameworks that want or
hold something. This is looked at with every round of pings, so "how long" is exact to one round.

For the reason, every slave is counted under the first rule that keeps it from the framework (`eligibility`).
"""

from __future__ import annotations

from collections.abc import Iterable

from offerd import operator_messages as om
from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd.values.screen_text import printable
from offerd_master.core import amounts, eligibility
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.eligibility import REASONS
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.pool import cut_quantities
from offerd_master.core.state import Framework, Slave

_TOLERANCE = 1e-9
_HELD = frozenset({"offered_to_others", "in_use", "minimum_offer_not_free", "filters_ask_for_more"})
"""The reasons for which the answer names who holds the slave's resources."""
_SHOWN = ("cpus", "mem")


def observe(c: Cluster, now: float) -> None:
    """Note which frameworks are under their share now."""
    since = c.under_share_since
    c.under_share_since = {framework_id: since.get(framework_id, now) for framework_id in _under_share(c)}


def _under_share(c: Cluster) -> Iterable[FrameworkID]:
    if not c.wanting:
        return []
    allocator, fair = c.allocator, c.allocator.fair_shares()
    return [fid for fid in c.wanting if allocator.share(fid) < fair.get(fid, 0.0) - _TOLERANCE]


def explain_framework(c: Cluster, caller: Caller, message: om.ExplainFramework, now: float) -> None:
    """Answer with the `Explanation` of the framework with this id or name."""
    wanted = message.framework
    found = c.named(caller, wanted)
    if len(found) == 1:
        c.send(caller.peer, _explanation(c, caller, found[0], now))
        return
    shown = printable(wanted)
    ids = ", ".join(framework.framework_id for framework in found[:10])
    problem = (
        f"several frameworks are called {shown}: {ids}"
        if found
        else f"no framework {shown} is registered; `offerd frameworks` lists them"
    )
    c.send(caller.peer, om.Explanation(problem=problem))


def _explanation(c: Cluster, caller: Caller, framework: Framework, now: float) -> om.Explanation:
    framework_id, entitlements = framework.framework_id, c.entitlements
    fair = c.allocator.fair_shares().get(framework_id, 0.0)
    share = c.allocator.share(framework_id)
    is_under = framework_id in c.wanting and share < fair - _TOLERANCE
    under_since = c.under_share_since.get(framework_id, now)
    guaranteed = entitlements.guaranteed(framework_id) if entitlements is not None else {}
    room = entitlements.room(framework_id) if entitlements is not None else None
    shortage = c.shortages.get(framework_id)
    slaves: dict[str, list[Slave]] = {}
    for slave in c.slaves.values():
        slaves.setdefault(eligibility.reason_against(c, framework, slave, now), []).append(slave)
    return om.Explanation(
        framework_id=framework_id,
        name=framework.info.name[:MAX_TEXT],
        role=framework.info.role[:MAX_TEXT],
        state="ended" if framework.ended else "active" if framework.peer is not None else "disconnected",
        needs_offers=framework.needs_offers,
        share=share,
        fair_share=fair,
        under_share_s=now - under_since if is_under else None,
        guaranteed=Resources(cut_quantities(guaranteed)),
        under_guarantee_s=now - shortage.since if shortage is not None else None,
        limit_room=dict(room) if room is not None else None,
        revoking=sum(len(r.tasks) for r in c.revocations if r.framework is framework),
        being_revoked=sum(len(r.tasks) for r in c.revocations if r.victim is framework),
        causes=[_cause(c, caller, framework, why, slaves[why]) for why in REASONS if why in slaves],
        needed=cut_quantities(framework.filters.filters.minimum.scalars),
    )


def _cause(c: Cluster, caller: Caller, framework: Framework, why: str, slaves: list[Slave]) -> om.Cause:
    """One reason with its amounts: what is free on these slaves and, where it matters, who holds the rest."""
    text, free, holders = REASONS[why], amounts.free_sum(slaves), []
    if why in _HELD:
        holders = amounts.holders_there(c, caller, framework, slaves)
        if free:
            text += f"; free: {amounts.words(free, _SHOWN)}"
        if held := amounts.holders_words(holders, _SHOWN):
            text += f"; held: {held}"
    return om.Cause(why, len(slaves), text, free, holders)
