"""Ramp-up time: how long a new framework takes to get its fair share (Mesos, NSDI 2011, section 4).

The time starts with the framework's first wish for offers. It ends when its tasks hold its fair share, or when one more such
task would exceed it, or when it wants no more and has a task. Only frameworks that have launched something or changed their
wishes since the last look are looked at, and so rarely that the cost is small for any number of frameworks.

The ramp-up time of a framework that began under an earlier master is not known.
"""

from __future__ import annotations

from collections.abc import Mapping

from offerd.ids import FrameworkID
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Framework

_TOLERANCE = 1e-9
_PACE_S = 0.0002
"""Pause per framework between looks: to compute all fair shares takes a microsecond for each."""


def observe(c: Cluster, now: float) -> None:
    """To be called once a turn."""
    ramping = c.ramping
    for framework in ramping.first_wishes:
        framework.wanted_since = now
    ramping.first_wishes.clear()
    if not ramping.frameworks or now < ramping.not_before:
        return
    fair: Mapping[FrameworkID, float] | None = None
    for framework in ramping.frameworks.values():
        if framework.wanted_since is None or framework.ramp_up_s is not None or not framework.tasks:
            continue
        if framework.needs_offers:
            if fair is None:
                fair = c.allocator.fair_shares()
                ramping.not_before = now + _PACE_S * len(c.frameworks)
            if not _has_its_share(c, framework, fair):
                continue
        framework.ramp_up_s = now - framework.wanted_since
    ramping.frameworks.clear()


def next_look(c: Cluster) -> float | None:
    """When frameworks are to be looked at that came too soon after the last look."""
    return c.ramping.not_before if c.ramping.frameworks else None


def look_at_all(c: Cluster) -> None:
    """Look at all in the next turn: shares also change by what others do."""
    for framework in c.wanting.values():
        if framework.ramp_up_s is None and framework.tasks:
            c.ramping.frameworks[framework.framework_id] = framework


def _has_its_share(c: Cluster, framework: Framework, fair: Mapping[FrameworkID, float]) -> bool:
    due = fair.get(framework.framework_id)
    if due is None:
        return False
    held = dict(c.allocator.held(framework.framework_id))
    for offer in framework.offers.values():
        for name, amount in offer.resources.quantities().items():
            held[name] = held.get(name, 0) - amount
    newest = next(reversed(framework.tasks.values())).resources.quantities()
    return _dominant(c, held) >= due - _TOLERANCE or _dominant(c, held, newest) > due + _TOLERANCE


def _dominant(c: Cluster, held: Mapping[str, int], more: Mapping[str, int] | None = None) -> float:
    """The largest fraction of any resource of the cluster that `held` and `more` make up."""
    parts = (
        (amount + (more.get(name, 0) if more is not None else 0)) / total
        for name, amount in held.items()
        if (total := c.total.get(name, 0)) > 0
    )
    return max(parts, default=0.0)
