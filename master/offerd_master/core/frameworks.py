"""Registrations of frameworks and their faults. What happens to their schedulers later is in `failover`."""

from __future__ import annotations

from offerd import messages as m
from offerd.core.filters import fault as filters_fault
from offerd.ids import FrameworkID, PeerID, is_valid_id, owner_of
from offerd.messages import FrameworkInfo, Reason
from offerd.resources import Resources
from offerd.values.screen_text import printable
from offerd.wire.codec import encode_message
from offerd_master.allocation.policy import role_fault
from offerd_master.core import failover, files, recovery
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import FRAMEWORK_AHEAD, MAX_INFO_BYTES, Cluster
from offerd_master.core.pool import cut_quantities
from offerd_master.core.state import Framework, Slave, Standby, Wishes
from offerd_master.core.tasks import take_as_lost

MAX_EXECUTOR_BYTES = 256 << 10
MAX_FAILOVER_S = 365 * 86_400.0


# -- Registration -------------------------------------------------------------------------------------------------------


def register_framework(c: Cluster, caller: Caller, message: m.RegisterFramework, now: float) -> None:
    """Handle a registration: of a new framework, of the next scheduler of a known one, or a repeated one."""
    peer, known = caller.peer, c.peers.get(caller.peer)
    if isinstance(known, Slave):
        c.drop(peer, "it has registered as a slave, and now says it is a framework")
        return
    if message.protocol < m.OLDEST_PROTOCOL:
        text = f"this framework speaks protocol {message.protocol}, the master {m.OLDEST_PROTOCOL} and later; upgrade it"
        c.send(peer, m.FrameworkRefused(Reason.PROTOCOL_TOO_OLD, text))
        return
    info = message.framework
    framework_id = info.framework_id or (known.framework_id if known is not None else FrameworkID(""))
    reason, fault = _registration_fault(c, caller, framework_id, message)
    if fault:
        c.send(peer, m.FrameworkRefused(reason, fault))
        c.log(f"refused framework {printable(info.name, 64)}: {fault}", "warning")
        return
    c.note_epoch(message.epoch, FRAMEWORK_AHEAD)
    if known is not None and known.framework_id != framework_id:
        _part(c, known, now)
        known = None
    framework = c.frameworks.get(framework_id)
    if framework_id and framework is None and not c.is_own_id(framework_id):
        recovery.note_return(c, now)
    is_repeated = framework is not None and known is framework
    if (
        message.stands_by
        and not is_repeated
        and failover.has_to_wait(c, framework, framework_id, message, now)
    ):
        if framework is None:
            framework = failover.adopt(c, framework_id, info, now)
        _stand_by(c, framework, message, peer, now)
        return
    if isinstance(known, Standby):
        failover.leave_line(c, known)
    framework = _make_active(c, caller, framework, framework_id, message, now)
    # A scheduler that registers again over the same connection may not have read our answer, and may not read offers either.
    framework.is_unresponsive = is_repeated
    c.peers[peer] = framework
    c.update_wanting(framework)
    is_again = bool(framework_id)
    c.log(f"framework {framework.framework_id} ({info.name}) {'is back' if is_again else 'registered'}")
    _send_registered(c, framework, now, is_again=is_again)
    if is_repeated:
        c.send(peer, m.Ping())
    c.mark_idle_dirty()


def _stand_by(
    c: Cluster, framework: Framework, message: m.RegisterFramework, peer: PeerID, now: float
) -> None:
    """Put this scheduler into the line, unless too many stand in it."""
    if len(framework.standbys) < failover.MAX_STANDBYS:
        wishes = Wishes(message.needs_offers, message.filters)
        failover.stand_by(c, framework, message, wishes, peer, now)
    else:
        text = f"{failover.MAX_STANDBYS} schedulers stand by already"
        c.send(peer, m.FrameworkRefused(Reason.FRAMEWORK_INVALID, text))


def _make_active(
    c: Cluster,
    caller: Caller,
    framework: Framework | None,
    framework_id: FrameworkID,
    message: m.RegisterFramework,
    now: float,
) -> Framework:
    """Enter a new framework with this scheduler, or let the scheduler take over a known one."""
    info, wishes = message.framework, Wishes(message.needs_offers, message.filters)
    if framework is None:
        new_id = framework_id or FrameworkID(c.new_id("F", caller.name))
        framework = failover.enter(c, new_id, info, caller.peer, now)
        failover.take_wishes(c, framework, wishes)
    else:
        failover.take_over(c, framework, info, caller.peer, wishes)
    framework.scheduler_id = message.scheduler_id[:128]
    if not c.is_own_id(framework.framework_id):
        framework.since = min(framework.since, now - message.since_s)
    take_as_lost(c, framework, message.called_lost)
    return framework


def _registration_fault(
    c: Cluster, caller: Caller, framework_id: FrameworkID, registration: m.RegisterFramework
) -> tuple[str, str]:
    """The fault of a registration: reason and text, or two empty strings."""
    if fault := _fault(registration.framework) or filters_fault(registration.filters):
        return Reason.FRAMEWORK_INVALID, fault
    reason, fault = _id_fault(c, framework_id)
    if fault:
        return reason, fault
    framework = None if registration.stands_by else c.frameworks.get(framework_id)
    owner = owner_of(framework_id) if framework_id else caller.name
    more_bytes = len(encode_message(registration.framework)) + len(encode_message(registration.filters))
    if framework is not None:
        more_bytes -= len(encode_message(framework.info)) + framework.filters_bytes
    if fault := c.budgets.fault(c.settings, owner, more_bytes, is_one_more=framework is None):
        return Reason.FRAMEWORK_INVALID, fault
    return "", ""


def _send_registered(c: Cluster, framework: Framework, now: float, *, is_again: bool) -> None:
    settings, info = c.settings, framework.info
    most_s = settings.max_failover_timeout_s
    if max(info.failover_timeout_s, info.unreachable_timeout_s) > most_s:
        c.log(
            f"framework {framework.framework_id}: its time-outs are cut to {most_s:g} s (--max-failover-timeout)"
        )
    registered = m.FrameworkRegistered(
        framework.framework_id,
        c.master_id,
        is_again,
        settings.ping_interval_s,
        max_failover_s=most_s,
        heeds_wishes=True,
        since_s=max(0.0, now - framework.since),
    )
    c.send(framework.peer, registered)
    files.hand_out_again(c, framework)


def _part(c: Cluster, known: Framework | Standby, now: float) -> None:
    """This connection speaks for another framework from now on."""
    if isinstance(known, Standby):
        failover.leave_line(c, known)
    else:
        failover.disconnect(c, known, now)


def _fault(info: FrameworkInfo) -> str:
    """The fault of a description, as one line for its sender; empty if it is good."""
    executor_ids = [executor.executor_id for executor in info.executors]
    if not all(map(is_valid_id, executor_ids)) or len(set(executor_ids)) < len(executor_ids):
        return "each executor must have its own id of 1 to 128 letters, digits and _.:@=+-"
    if not 0 <= info.failover_timeout_s <= MAX_FAILOVER_S:
        return f"the fail-over time-out must be 0 to {MAX_FAILOVER_S:.0f} seconds"
    if not 0 <= info.unreachable_timeout_s <= MAX_FAILOVER_S:
        return f"the time-out of unreachable tasks must be 0 to {MAX_FAILOVER_S:.0f} seconds"
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


def _id_fault(c: Cluster, framework_id: FrameworkID) -> tuple[str, str]:
    """Why no scheduler may register under this id: reason and text, or two empty strings. If this master gave the id and does
    not know it, the framework has ended.
    """
    if not framework_id:
        return "", ""
    if not is_valid_id(framework_id):
        return Reason.FRAMEWORK_INVALID, "its framework id is not a valid id"
    framework = c.frameworks.get(framework_id) or c.ended_frameworks.get(framework_id)
    if framework is not None and framework.ended:
        reason, text = framework.ended_because
        return reason, f"{text}; register without an id"
    if framework is None and c.is_own_id(framework_id):
        return Reason.FRAMEWORK_REMOVED, f"framework {framework_id} has ended; register without an id"
    return "", ""


# -- Messages -----------------------------------------------------------------------------------------------------------


def teardown_framework(c: Cluster, framework: Framework, message: m.TeardownFramework, now: float) -> None:
    c.log(f"framework {framework.framework_id} ({framework.info.name}) is done")
    failover.end(c, framework, now, Reason.FRAMEWORK_TORN_DOWN, "its scheduler said so")


def get_guaranteed_share(c: Cluster, framework: Framework, message: m.GetGuaranteedShare, now: float) -> None:
    """Answer how much it may hold without losing a task. It changes when slaves or frameworks of its role come or go."""
    share = c.entitlements.guaranteed(framework.framework_id) if c.entitlements is not None else {}
    c.send(framework.peer, m.GuaranteedShare(Resources(cut_quantities(share))))
