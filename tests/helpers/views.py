"""What a gateway knows of a cluster whose master's core a test drives."""

from __future__ import annotations

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from helpers.shadow import EVERYTHING
from offerd.messages import Reason, TaskState, TeardownFramework
from offerd.protocol.change_messages import TIMING_BOUNDS_S, Timing
from offerd_master.core import following
from offerd_master.core.events import Measured
from offerd_web.core.view import ClusterView

WALL = 1_790_000_000.0
"""The gateway's clock, when the master's shows 0."""
MEASURED = Measured(
    {"messages_sent": 70},
    {"connections": 3, "peers_waiting": 1, "bytes_waiting": 5, "peers_with_backlog": 2},
    {name: Timing([2] * (len(TIMING_BOUNDS_S) + 1), 1.5) for name in ("tick", "loop_lag")},
)
"""What a daemon would say of itself."""


def view_of(cluster: ClusterHarness, *, limit: int = 1000) -> ClusterView:
    """The view after everything that the master has to say now."""
    core, now, view = cluster.core.cluster, cluster.now, ClusterView()
    following.note_follower(core, now)
    following.scan_frameworks(core)
    while not view.replica.is_current:
        question = view.replica.question(limit=limit)
        view.apply(following.changes_since(core, EVERYTHING, question, now), WALL + now)
    return view


def busy_cluster() -> tuple[ClusterHarness, FrameworkPeer, SlavePeer]:
    """A cluster of 8 cpus in which every metric has a value: two tasks hold three cpus, one has run into its time limit, the
    rest is offered, and another framework has ended.
    """
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=4,mem=4G,ports=[31000-31009]", "one")
    framework = cluster.framework('a "quoted" name', role="prod")
    offer = framework.offer()
    framework.accept(
        offer,
        tasks=[task("t1", "cpus=1,mem=1G"), task("t2", "cpus=2,mem=1G"), task("t3", "cpus=1,mem=1G")],
        refuse_seconds=1e6,
    )
    cluster.advance(2.0)
    slave.status(framework, "t1", TaskState.RUNNING)
    slave.status(framework, "t3", TaskState.KILLED, reason=Reason.TASK_TIMEOUT)
    cluster.slave("cpus=4,mem=4G", "two")
    gone = cluster.framework("gone")
    cluster.advance(1.0)
    gone.send(TeardownFramework())
    cluster.turn(MEASURED)
    return cluster, framework, slave
