"""Changes that the operator makes while the master runs: terms (weights, priorities, guarantees, limits), and keys with their
rights.
"""

from __future__ import annotations

from offerd_master.allocation.base import Allocator
from offerd_master.core import files, revocation, rights, slaves
from offerd_master.core.cluster import Cluster
from offerd_master.principals import Principals, owner_of
from offerd_master.settings import MasterSettings


def change(c: Cluster, settings: MasterSettings, allocator: Allocator, now: float) -> None:
    """Go on with a new module, which knows the new terms. No framework loses an offer or a task by this; new offers follow the
    new terms. A framework that was short before, and still is, keeps the time that it has waited.
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
    c.mark_idle_dirty()  # a limit that is higher now may have left resources free
    c.log("read the terms of roles and frameworks again")


def authorize(c: Cluster, principals: Principals, now: float) -> None:
    """Only these principals have rights from now on: what runs by a right that is gone ends."""
    before = c.authorized
    c.authorized = dict(principals)
    c.principals = {principal.name: principal for principal in principals.values()}
    for slave in list(c.slaves.values()):
        owner = c.principals.get(owner_of(slave.slave_id))
        if owner is None or not owner.slave:
            slaves.expel(c, slave, "its key has been taken away", now)
    # The access to files that others were given is revoked, too.
    kept = {(key, who.name, who.operator) for key, who in principals.items()}
    files.refuse_owners(
        c, [who.name for key, who in before.items() if (key, who.name, who.operator) not in kept]
    )
    for framework in list(c.frameworks.values()):
        rights.look_at(c, framework, now)
