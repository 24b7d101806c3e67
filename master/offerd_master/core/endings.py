"""Orders to slaves to end executors of a framework: all of them, or those that run as a user that is no longer its own.

They carry the operator's grace, not the one that the framework chose: what ends for the good of others must end when that was
promised. A slave that is away gets the orders when it returns.
"""

from __future__ import annotations

from collections.abc import Iterable

from offerd import messages as m
from offerd.ids import FrameworkID
from offerd.messages import Reason
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Framework, Slave


def shut_down(
    c: Cluster, slave: Slave, framework_id: FrameworkID, user: str | None = None, reason: str = ""
) -> None:
    """End the framework's executors on this slave, or those that run as `user`."""
    c.send(slave.peer, m.ShutdownFramework(framework_id, c.settings.operator_grace_s, user, reason))


def shut_down_everywhere(c: Cluster, framework: Framework) -> None:
    """End all that this framework runs."""
    busy = {task.slave.slave_id: task.slave for task in framework.tasks.values()}
    if framework.executors_running:
        busy |= {slave.slave_id: slave for slave in holders(c, framework)}
    for slave in busy.values():
        shut_down(c, slave, framework.framework_id)


def holders(c: Cluster, framework: Framework) -> Iterable[Slave]:
    """The slaves that have executors of this framework."""
    return [slave for slave in c.slaves.values() if framework.framework_id in slave.executors]


def user_changed(c: Cluster, framework: Framework) -> None:
    """The framework's scheduler now names another user: executors of any other user end. The next tasks get new executors."""
    if not framework.executors_running:
        return
    for slave in holders(c, framework):
        own = slave.runs_as(framework.info.user)
        for user in {one.user for one in slave.executors[framework.framework_id].values()} - {own}:
            c.log(f"framework {framework.framework_id}: ending what runs as {user[:64]} on {slave.slave_id}")
            shut_down(c, slave, framework.framework_id, user, Reason.USER_CHANGED)


def end_other_users(c: Cluster, slave: Slave, running: Iterable[m.RunningExecutor]) -> None:
    """The same for a slave that registers with these executors: it may have been away when the user changed."""
    for framework_id, user in {(one.framework.framework_id, one.framework.user) for one in running}:
        framework = c.frameworks.get(framework_id)
        if framework is not None and framework.met_on is None and user != slave.runs_as(framework.info.user):
            shut_down(c, slave, framework_id, user, Reason.USER_CHANGED)
