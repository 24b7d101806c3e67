"""The operator says anew who gets how much, while the master runs: weights, priorities, guarantees and limits."""

from __future__ import annotations

from offerd_master.allocation.base import Allocator
from offerd_master.core import revocation
from offerd_master.core.state import Cluster
from offerd_master.settings import Settings


def change(c: Cluster, settings: Settings, allocator: Allocator, now: float) -> None:
    """Go on with a fresh module, which knows the new terms. Nobody loses an offer or a task by this; what is offered from
    now on goes by the new terms. Who was short before and still is has waited since then.
    """
    c.settings = settings
    c.use_allocator(allocator)
    for slave in c.slaves.values():
        c.allocator.add_total(slave.total)
    for framework_id, framework in c.frameworks.items():
        c.add_account(framework)
        for task in framework.tasks.values():
            c.allocator.charge(framework_id, task.resources)
        for offer in framework.offers.values():
            c.allocator.charge(framework_id, offer.resources)
        c.update_wanting(framework)
    for slave in c.slaves.values():
        for framework_id, executors in slave.executors.items():
            for executor in executors.values():
                c.allocator.charge(framework_id, executor.resources)
    revocation.begin(c, now)
    c.mark_idle_dirty()  # a limit that was raised may have kept something free
    c.log("terms of roles and frameworks read anew")
