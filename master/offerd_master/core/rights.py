"""Rights that are taken away while tasks run by them: these tasks end at once, whether or not their scheduler is connected.

Where peers have keys, no executor runs that the owner of its framework may not have. When the operator removes or revokes a
right, everything that runs is checked; what a slave brings when it registers is checked then.
"""

from __future__ import annotations

from collections.abc import Iterable

from offerd import messages as m
from offerd.ids import FrameworkID
from offerd.messages import Reason
from offerd_master.core import failover
from offerd_master.core.cluster import Cluster
from offerd_master.core.endings import holders, shut_down
from offerd_master.core.state import Framework, Slave
from offerd_master.principals import Principal, owner_of


def look_at(c: Cluster, framework: Framework, now: float) -> None:
    """End what this framework may no longer have, and the framework itself if its owner may have none."""
    if c.principals is None:
        return
    owner = c.principals.get(owner_of(framework.framework_id))
    if owner is None or not owner.has_frameworks:
        if not framework.ended:
            why = "the key of its owner has been taken away"
            c.log(f"framework {framework.framework_id} ({framework.info.name}): {why}", "warning")
            _dismiss(c, framework, why)
            failover.end(c, framework, now, Reason.NOT_AUTHORIZED, why)
        return
    if framework.peer is not None and (why := fault(owner, framework.info.role, framework.info.user)):
        c.log(f"framework {framework.framework_id} ({framework.info.name}): {why}", "warning")
        _dismiss(c, framework, why)
        failover.disconnect(c, framework, now)
    # Before its scheduler has come, the role is known from slaves alone: they were checked when they registered.
    role = framework.info.role if framework.met_on is None else None
    for slave in holders(c, framework):
        for user in {one.user for one in slave.executors[framework.framework_id].values()}:
            _end_user(c, slave, framework.framework_id, owner, role, user)


def look_at_slave(c: Cluster, slave: Slave, running: Iterable[m.RunningExecutor]) -> None:
    """The same for the executors of a slave that registers."""
    if c.principals is None:
        return
    for framework_id, role, user in {
        (one.framework.framework_id, one.framework.role, one.framework.user) for one in running
    }:
        owner = c.principals.get(owner_of(framework_id))
        _end_user(c, slave, framework_id, owner, role, user)


def fault(who: Principal, role: str, user: str) -> str:
    """Why a framework of this principal may not have this role or run as this user, as one line; empty if it may."""
    if not who.may_have_role(role):
        others = f", only of {', '.join(who.roles)[:128]}" if who.roles else ""
        return f"{who.name} may not have frameworks of role {role[:64]}{others}"
    if not who.may_run_as(user):
        return f"{who.name} may not run tasks as user {user[:64]}"
    return ""


def _end_user(
    c: Cluster, slave: Slave, framework_id: FrameworkID, owner: Principal | None, role: str | None, user: str
) -> None:
    """End the framework's executors that run as this user on this slave, unless its owner may have them."""
    if owner is not None and (role is None or owner.may_have_role(role)):
        is_default = user == slave.info.default_user and owner.may_run_as("")
        if is_default or owner.may_run_as(user):
            return
    where = f"on {slave.slave_id}: not authorized"
    c.log(f"framework {framework_id[:128]}: ending what runs as {user[:64]} {where}", "warning")
    shut_down(c, slave, framework_id, user, Reason.NOT_AUTHORIZED)


def _dismiss(c: Cluster, framework: Framework, why: str) -> None:
    """Refuse all its schedulers. Those that stood by may register again."""
    for peer in (framework.peer, *(standby.peer for standby in framework.standbys)):
        c.send(peer, m.FrameworkRefused(Reason.NOT_AUTHORIZED, why))
    for standby in list(framework.standbys):
        failover.leave_line(c, standby)
