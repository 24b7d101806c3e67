"""Schedulers that fail and those that follow them: take-over, standing by, promotion, silence, fail-over time-out, end.

A framework has one active scheduler (`peer`), and a line of schedulers that stand by. When the active one is gone, the first in
line becomes active at once. Without any, the framework keeps its tasks and loses its offers. When its fail-over time-out is
over it ends: slaves get the order to end its executors, and it stays in the accounts until they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from offerd import messages as m
from offerd.ids import FrameworkID, PeerID
from offerd.messages import FrameworkInfo, Reason
from offerd.resources import Resources
from offerd_master.core import files, offers
from offerd_master.core.cluster import Cluster
from offerd_master.core.endings import shut_down_everywhere, user_changed
from offerd_master.core.state import Framework, Slave, Standby, Wishes
from offerd_master.core.tasks import end_wait, forget_if_empty

LINE_WAITS_S = 3.0
"""How long the first in line waits, under a new master, for the scheduler that was active under the last one."""
MAX_STANDBYS = 100
"""How many schedulers may stand in one line."""


# -- The active one -----------------------------------------------------------------------------------------------------


def enter(
    c: Cluster, framework_id: FrameworkID, info: FrameworkInfo, peer: PeerID | None, now: float
) -> Framework:
    """A framework that was not known before."""
    framework = Framework(framework_id, info, peer, now)
    c.frameworks[framework_id] = framework
    c.changes.enter_framework(framework_id, framework, framework.launch_info)
    c.budgets.enter(framework_id, framework.info)
    c.allocator.add_framework(framework_id, info.role, info.name)
    return framework


def take_over(c: Cluster, framework: Framework, info: FrameworkInfo, peer: PeerID, wishes: Wishes) -> None:
    """Make the scheduler at `peer` the active one. It has no open offers and no refusals."""
    if framework.peer is not None and framework.peer != peer:
        text = f"another scheduler has registered for framework {framework.framework_id}"
        c.send(framework.peer, m.FrameworkRefused(Reason.FRAMEWORK_FAILED_OVER, text))
        c.peers.pop(framework.peer, None)
    offers.rescind(c, framework.offers.values(), notify=False)
    offers.forget_refusals(c, framework)
    if framework.failover_timer is not None:
        c.timers.cancel(framework.failover_timer)
        framework.failover_timer = None
    if (framework.info.role, framework.info.name) != (info.role, info.name):
        _change_terms(c, framework, info)
    c.budgets.leave(framework.framework_id, framework.info, is_last=False)
    framework.describe(info)
    c.budgets.enter(framework.framework_id, framework.info, is_new=False)
    _confirm(framework)
    user_changed(c, framework)
    take_wishes(c, framework, wishes)
    framework.peer = peer
    framework.heard = True
    framework.unanswered = 0


def take_wishes(c: Cluster, framework: Framework, wishes: Wishes) -> None:
    """Take over the offers that its scheduler wants. Their filters count towards the size of its description."""
    before_bytes = framework.filters_bytes
    framework.take_wishes(wishes)
    c.budgets.says_more(framework.framework_id, framework.filters_bytes - before_bytes)


def _change_terms(c: Cluster, framework: Framework, info: FrameworkInfo) -> None:
    """Charge what the framework holds to its new role or name."""
    framework_id = framework.framework_id
    held = holdings(c, framework)
    for amount in held:
        c.allocator.refund(framework_id, amount)
    c.allocator.remove_framework(framework_id)
    c.allocator.add_framework(framework_id, info.role, info.name)
    for amount in held:
        c.allocator.charge(framework_id, amount)


def holdings(c: Cluster, framework: Framework) -> Sequence[Resources]:
    """Every amount that a framework is charged for."""
    return [
        *(task.resources for task in framework.tasks.values()),
        *(offer.resources for offer in framework.offers.values()),
        *(
            executor.resources
            for slave in c.slaves.values()
            for executor in slave.executors.get(framework.framework_id, {}).values()
        ),
    ]


# -- Those that stand by ------------------------------------------------------------------------------------------------


def has_to_wait(
    c: Cluster,
    framework: Framework | None,
    framework_id: FrameworkID,
    registration: m.RegisterFramework,
    now: float,
) -> bool:
    """Whether a scheduler that is ready to stand by must do so. The active one that lost its connection need not: it may be
    back before we miss it. A new master gives the scheduler that was active under the last one a moment to come first.
    """
    if framework is not None and framework.peer is not None:
        return not registration.scheduler_id or registration.scheduler_id != framework.scheduler_id
    return (
        bool(framework_id)
        and not registration.was_active
        and c.may_return(framework_id, now)
        and now < c.started_at + c.settings.recovery_window_s
    )


def stand_by(
    c: Cluster,
    framework: Framework,
    registration: m.RegisterFramework,
    wishes: Wishes,
    peer: PeerID,
    now: float,
) -> None:
    """Take a place in line; a scheduler that has one keeps it."""
    info, scheduler_id = registration.framework, registration.scheduler_id[:128]
    known = c.peers.get(peer)
    if not isinstance(known, Standby):
        known = Standby(peer, framework, info, scheduler_id)
        c.budgets.enter(framework.framework_id, info, is_new=False)
        c.peers[peer] = known
        framework.standbys.append(known)
        c.log(f"a scheduler stands by for framework {framework.framework_id} ({info.name})")
    else:
        c.budgets.leave(framework.framework_id, known.info, is_last=False)
        c.budgets.enter(framework.framework_id, info, is_new=False)
    known.info = info
    before_bytes, known.wishes = known.filters_bytes, wishes
    c.budgets.says_more(framework.framework_id, known.filters_bytes - before_bytes)
    ahead = framework.standbys.index(known)
    if not c.is_own_id(framework.framework_id):
        framework.since = min(framework.since, now - registration.since_s)
    ping_s, since_s = c.settings.ping_interval_s, max(0.0, now - framework.since)
    c.send(peer, m.FrameworkStandsBy(framework.framework_id, c.master_id, ahead, ping_s, since_s=since_s))
    if framework.peer is None:
        c.timers.set(now + LINE_WAITS_S, _open_line, framework)


def _open_line(c: Cluster, framework: Framework, now: float) -> None:
    if framework.peer is None and not framework.ended:
        promote(c, framework, now)


def promote(c: Cluster, framework: Framework, now: float) -> bool:
    """Make the first in line active, and report this to it. False if no scheduler stands by."""
    if not framework.standbys:
        return False
    standby = framework.standbys.pop(0)
    _forget_words(c, standby)
    take_over(c, framework, standby.info, standby.peer, standby.wishes or Wishes())
    framework.scheduler_id = standby.scheduler_id
    c.peers[standby.peer] = framework
    c.update_wanting(framework)
    c.log(
        f"framework {framework.framework_id} ({framework.info.name}): the scheduler that stood by is active"
    )
    c.send(
        standby.peer,
        m.FrameworkRegistered(
            framework.framework_id,
            c.master_id,
            True,
            c.settings.ping_interval_s,
            promoted=True,
            max_failover_s=c.settings.max_failover_timeout_s,
            heeds_wishes=True,
            since_s=max(0.0, now - framework.since),
        ),
    )
    files.hand_out_again(c, framework)
    c.mark_idle_dirty()
    return True


def leave_line(c: Cluster, standby: Standby) -> None:
    """A scheduler that stood by is gone."""
    c.peers.pop(standby.peer, None)
    standby.framework.standbys.remove(standby)
    _forget_words(c, standby)


def _forget_words(c: Cluster, standby: Standby) -> None:
    """Its description counts no longer."""
    c.budgets.says_more(standby.framework_id, -standby.filters_bytes)
    c.budgets.leave(standby.framework_id, standby.info, is_last=False)


def fail_over(c: Cluster, sender: Framework | Standby, message: m.FailOver, now: float) -> None:
    """A scheduler gives up its place of its own accord."""
    if isinstance(sender, Standby):
        leave_line(c, sender)
    else:
        disconnect(c, sender, now)


# -- Silence and end ----------------------------------------------------------------------------------------------------


def disconnect(c: Cluster, framework: Framework, now: float) -> None:
    """The active scheduler cannot be reached. If no other stands by, tasks go on until the fail-over time-out is over."""
    if framework.peer is not None:
        c.peers.pop(framework.peer, None)
    framework.peer = None
    framework.scheduler_id = ""
    framework.is_unresponsive = False
    c.update_wanting(framework)
    offers.rescind(c, framework.offers.values(), notify=False)
    offers.forget_refusals(c, framework)
    if promote(c, framework, now):
        return
    failover_s = _failover_s(c, framework.info)
    c.log(
        f"framework {framework.framework_id} ({framework.info.name}) is silent; it has {failover_s:g} s to return"
    )
    await_scheduler(c, framework, failover_s, now)


def _failover_s(c: Cluster, info: FrameworkInfo) -> float:
    return max(min(info.failover_timeout_s, c.settings.max_failover_timeout_s), c.settings.reconnect_grace_s)


def adopt(c: Cluster, framework_id: FrameworkID, info: FrameworkInfo, now: float) -> Framework:
    """A framework that a slave or a scheduler standing by has named before its active scheduler registered. It waits for one,
    as after a failure.
    """
    framework = enter(c, framework_id, info, None, now)
    await_scheduler(c, framework, max(_failover_s(c, info), c.settings.adoption_grace_s), now)
    return framework


def take_as_hearsay(c: Cluster, framework: Framework, slave: Slave, now: float) -> None:
    """Only this slave has named the framework. It is forgotten once it holds nothing and no scheduler has come."""
    framework.met_on = slave
    slave.met.add(framework.framework_id)
    c.timers.set(now + c.settings.adoption_grace_s, _look_at_hearsay, framework)


def _look_at_hearsay(c: Cluster, framework: Framework, now: float) -> None:
    if framework.met_on is None:
        return
    if framework.tasks or framework.executors_running or framework.standbys:
        c.timers.set(now + c.settings.adoption_grace_s, _look_at_hearsay, framework)
    else:
        end(c, framework, now, Reason.FRAMEWORK_REMOVED, "nothing of it is running, and no scheduler came")


def _confirm(framework: Framework) -> None:
    """The framework is no longer hearsay: a scheduler has registered for it, or it has ended."""
    if framework.met_on is not None:
        framework.met_on.met.discard(framework.framework_id)
        framework.met_on = None


def await_scheduler(c: Cluster, framework: Framework, seconds: float, now: float) -> None:
    """End the framework unless a scheduler comes within `seconds`."""
    framework.failover_timer = c.timers.set(now + seconds, _failover_over, framework)


def _failover_over(c: Cluster, framework: Framework, now: float) -> None:
    framework.failover_timer = None
    c.log(
        f"framework {framework.framework_id} ({framework.info.name}) did not return: ending its tasks",
        "warning",
    )
    end(c, framework, now, Reason.FAILOVER_TIMEOUT, "no scheduler of it returned in time")


def end(c: Cluster, framework: Framework, now: float, reason: Reason, text: str) -> None:
    """End the framework: it is offered nothing more and its executors end. Its schedulers get `reason`."""
    framework.ended_because = (reason, f"framework {framework.framework_id} has ended: {text}")
    if framework.peer is not None:
        c.peers.pop(framework.peer, None)
    for standby in list(framework.standbys):
        c.send(standby.peer, m.FrameworkRefused(*framework.ended_because))
        leave_line(c, standby)
    if framework.failover_timer is not None:
        c.timers.cancel(framework.failover_timer)
        framework.failover_timer = None
    framework.peer = None
    framework.ended = True
    _confirm(framework)
    if c.entitlements is not None:
        c.entitlements.forgo_guarantee(framework.framework_id)
    framework.ended_at = now
    for task in list(framework.unreachable.values()):
        end_wait(task)
    c.update_wanting(framework)
    offers.rescind(c, framework.offers.values(), notify=False)
    offers.forget_refusals(c, framework)
    shut_down_everywhere(c, framework)
    forget_if_empty(c, framework)


def ping_schedulers(c: Cluster, now: float) -> None:
    """Ask each scheduler for a sign of life; any message since the last ping is one."""
    for framework in list(c.frameworks.values()):
        for standby in list(framework.standbys):
            if _is_gone(c, standby):
                leave_line(c, standby)
        if framework.peer is not None and _is_gone(c, framework):
            disconnect(c, framework, now)


def _is_gone(c: Cluster, one: Framework | Standby) -> bool:
    one.unanswered = 0 if one.heard else one.unanswered + 1
    one.heard = False
    if one.unanswered >= c.settings.max_missed_pings:
        return True
    c.send(one.peer, m.Ping())
    return False
