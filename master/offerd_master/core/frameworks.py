"""Frameworks: registration, take-over by another scheduler, silence, fail-over time-out, end.

A framework whose scheduler is silent keeps its tasks and loses its offers. When its fail-over time-out is over it ends:
slaves are told to end its executors, and it stays in the accounts until they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from offerd import messages as m
from offerd.codec import encode_message
from offerd.ids import FrameworkID, PeerID, is_valid_id
from offerd.messages import FrameworkInfo, Reason
from offerd.resources import Resources
from offerd_master.allocation.policy import role_fault
from offerd_master.core import offers
from offerd_master.core.state import Cluster, Framework, Slave
from offerd_master.core.tasks import forget_if_empty

MAX_INFO_BYTES = 64 << 10
MAX_EXECUTOR_BYTES = 256 << 10
MAX_FAILOVER_S = 365 * 86_400.0


# -- Hello --------------------------------------------------------------------------------------------------------------


def register_framework(c: Cluster, peer: PeerID, message: m.RegisterFramework, now: float) -> None:
    """A new framework, the next scheduler of one, or a hello repeated."""
    known = c.peers.get(peer)
    if isinstance(known, Slave):
        c.drop(peer, "registered as a slave, now says it is a framework")
        return
    if message.protocol < m.OLDEST_PROTOCOL:
        text = f"this framework speaks protocol {message.protocol}, the master {m.OLDEST_PROTOCOL} and later; upgrade it"
        c.send(peer, m.FrameworkRefused(Reason.PROTOCOL_TOO_OLD, text))
        return
    c.heed_epoch(message.epoch)
    info = message.framework
    framework_id = info.framework_id or (known.framework_id if known is not None else FrameworkID(""))
    fault = _fault(info) or _id_fault(c, framework_id)
    if fault:
        c.send(peer, m.FrameworkRefused(Reason.FRAMEWORK_INVALID, fault))
        c.log(f"refused framework {info.name[:64]!r}: {fault}", "warning")
        return
    if known is not None and known.framework_id != framework_id:
        disconnect(c, known, now)
    framework = c.frameworks.get(framework_id)
    if framework is None:
        framework = _enter(c, framework_id or FrameworkID(c.new_id("F")), info, peer, now)
    else:
        _take_over(c, framework, info, peer)
    c.peers[peer] = framework
    c.update_wanting(framework)
    is_again = bool(framework_id)
    c.log(f"framework {framework.framework_id} ({info.name}) {'is back' if is_again else 'registered'}")
    c.send(
        peer, m.FrameworkRegistered(framework.framework_id, c.master_id, is_again, c.settings.ping_interval_s)
    )
    c.mark_idle_dirty()


def adopt(c: Cluster, framework_id: FrameworkID, info: FrameworkInfo, now: float) -> Framework:
    """A framework met on a slave before its scheduler has said hello: it waits for one, as after a failure."""
    framework = _enter(c, framework_id, info, None, now)
    _await_scheduler(c, framework, max(_failover_s(c, info), c.settings.adoption_grace_s), now)
    return framework


def _enter(
    c: Cluster, framework_id: FrameworkID, info: FrameworkInfo, peer: PeerID | None, now: float
) -> Framework:
    framework = Framework(framework_id, info, peer, now)
    c.frameworks[framework_id] = framework
    c.allocator.add_framework(framework_id, info.role, info.name)
    return framework


def _take_over(c: Cluster, framework: Framework, info: FrameworkInfo, peer: PeerID) -> None:
    """The scheduler at `peer` is the framework's from now on. It knows of no offers, filters or refusals."""
    if framework.peer is not None and framework.peer != peer:
        text = f"another scheduler has registered for framework {framework.framework_id}"
        c.send(framework.peer, m.FrameworkRefused(Reason.FRAMEWORK_FAILED_OVER, text))
        c.peers.pop(framework.peer, None)
    offers.rescind(c, framework.offers.values(), tell=False)
    offers.forget_refusals(c, framework)
    if framework.failover_timer is not None:
        c.timers.cancel(framework.failover_timer)
        framework.failover_timer = None
    if (framework.info.role, framework.info.name) != (info.role, info.name):
        _change_terms(c, framework, info)
    framework.describe(info)
    framework.set_filters(m.Filters())
    framework.needs_offers = True
    framework.peer = peer
    framework.heard = True
    framework.unanswered = 0


def _change_terms(c: Cluster, framework: Framework, info: FrameworkInfo) -> None:
    """What the framework holds is counted for the other role or name."""
    framework_id = framework.framework_id
    held = holdings(c, framework)
    for amount in held:
        c.allocator.refund(framework_id, amount)
    c.allocator.remove_framework(framework_id)
    c.allocator.add_framework(framework_id, info.role, info.name)
    for amount in held:
        c.allocator.charge(framework_id, amount)


def holdings(c: Cluster, framework: Framework) -> Sequence[Resources]:
    """Everything a framework is charged for."""
    return [
        *(task.resources for task in framework.tasks.values()),
        *(offer.resources for offer in framework.offers.values()),
        *(
            executor.resources
            for slave in c.slaves.values()
            for executor in slave.executors.get(framework.framework_id, {}).values()
        ),
    ]


def _fault(info: FrameworkInfo) -> str:
    """What makes a description unusable, as a line for its sender; empty if it is good."""
    executor_ids = [executor.executor_id for executor in info.executors]
    if not all(map(is_valid_id, executor_ids)) or len(set(executor_ids)) < len(executor_ids):
        return "executors must have ids of their own: 1 to 128 letters, digits and _.:@=+-"
    if not 0 <= info.failover_timeout_s <= MAX_FAILOVER_S:
        return f"the fail-over time-out must be 0 to {MAX_FAILOVER_S:.0f} seconds"
    if fault := role_fault(info.role):
        return fault
    if len(encode_message(_without_executors(info))) > MAX_INFO_BYTES:
        return f"the description of the framework is longer than {MAX_INFO_BYTES} bytes; shorten its labels"
    for executor in info.executors:
        if len(encode_message(executor)) > MAX_EXECUTOR_BYTES:
            text = f"the description of executor {executor.executor_id} is longer than {MAX_EXECUTOR_BYTES} bytes"
            return f"{text}; send its data with the tasks, or as a file"
        if not 0 <= executor.shutdown_grace_s <= MAX_FAILOVER_S:
            return f"the shutdown grace of executor {executor.executor_id} must be a number of seconds, zero or more"
    return ""


def _without_executors(info: FrameworkInfo) -> FrameworkInfo:
    return FrameworkInfo(
        info.name, info.framework_id, info.user, info.role, [], 0.0, info.hostname, info.labels
    )


def _id_fault(c: Cluster, framework_id: FrameworkID) -> str:
    """Whether a scheduler may come back under this id. One that we gave and do not know has ended."""
    if not framework_id:
        return ""
    if not is_valid_id(framework_id):
        return "its framework id is no id"
    framework = c.frameworks.get(framework_id)
    has_ended = framework.ended if framework is not None else c.is_own_id(framework_id)
    if has_ended or framework_id in c.ended_frameworks:
        return f"framework {framework_id} has ended; register without an id"
    return ""


# -- Silence and end ----------------------------------------------------------------------------------------------------


def disconnect(c: Cluster, framework: Framework, now: float) -> None:
    """Nothing reaches the scheduler. Its tasks go on until the fail-over time-out is over."""
    if framework.peer is not None:
        c.peers.pop(framework.peer, None)
    framework.peer = None
    c.update_wanting(framework)
    offers.rescind(c, framework.offers.values(), tell=False)
    offers.forget_refusals(c, framework)
    failover_s = _failover_s(c, framework.info)
    c.log(
        f"framework {framework.framework_id} ({framework.info.name}) is silent; it has {failover_s:g} s to return"
    )
    _await_scheduler(c, framework, failover_s, now)


def _failover_s(c: Cluster, info: FrameworkInfo) -> float:
    return max(info.failover_timeout_s, c.settings.reconnect_grace_s)


def _await_scheduler(c: Cluster, framework: Framework, seconds: float, now: float) -> None:
    framework.failover_timer = c.timers.set(now + seconds, _failover_over, framework)


def _failover_over(c: Cluster, framework: Framework, now: float) -> None:
    framework.failover_timer = None
    c.log(
        f"framework {framework.framework_id} ({framework.info.name}) did not return: ending its tasks",
        "warning",
    )
    end(c, framework, now)


def end(c: Cluster, framework: Framework, now: float) -> None:
    """The framework is over: it is offered nothing, and what runs of it is ended."""
    if framework.peer is not None:
        c.peers.pop(framework.peer, None)
    if framework.failover_timer is not None:
        c.timers.cancel(framework.failover_timer)
        framework.failover_timer = None
    framework.peer = None
    framework.ended = True
    framework.ended_at = now
    c.update_wanting(framework)
    offers.rescind(c, framework.offers.values(), tell=False)
    offers.forget_refusals(c, framework)
    busy = {task.slave.slave_id: task.slave for task in framework.tasks.values()}
    if framework.executors_running:
        busy |= {
            slave.slave_id: slave for slave in c.slaves.values() if framework.framework_id in slave.executors
        }
    for slave in busy.values():
        c.send(slave.peer, m.ShutdownFramework(framework.framework_id))
    forget_if_empty(c, framework)


def teardown_framework(c: Cluster, framework: Framework, message: m.TeardownFramework, now: float) -> None:
    c.log(f"framework {framework.framework_id} ({framework.info.name}) is done")
    end(c, framework, now)


def ping_frameworks(c: Cluster, now: float) -> None:
    """Ask each scheduler for a sign of life; any message since the last question is one."""
    for framework in list(c.frameworks.values()):
        if framework.peer is None:
            continue
        framework.unanswered = 0 if framework.heard else framework.unanswered + 1
        framework.heard = False
        if framework.unanswered >= c.settings.max_missed_pings:
            disconnect(c, framework, now)
        else:
            c.send(framework.peer, m.Ping())


def get_guaranteed_share(c: Cluster, framework: Framework, message: m.GetGuaranteedShare, now: float) -> None:
    """What it may hold without losing a task. It changes when slaves or other frameworks of its role come or go."""
    share = c.entitlements.guaranteed(framework.framework_id) if c.entitlements is not None else {}
    c.send(framework.peer, m.GuaranteedShare(Resources(dict(share))))
