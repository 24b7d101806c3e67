"""Slaves: registration, return with their tasks, pings, loss.

A slave that returns reports what runs on it, and the accounts are rebuilt from that. If it does not name one of our tasks, the
task may have crossed its registration on the way, or have ended: it is lost only if nothing is heard of it for
`missing_task_grace_s`. A task that was reported lost with its slave stays ended for its scheduler. It is killed, counts until
it has ended, and its later statuses are not forwarded.

All that frameworks hear of it is listed in docs/fault-tolerance.md, "When a slave dies".
"""

from __future__ import annotations

import math

import msgspec

from offerd import messages as m
from offerd.ids import FrameworkID, PeerID, SlaveID, TaskID, is_valid_id
from offerd.messages import FrameworkInfo, Reason, RunningTask, TaskState
from offerd.values.screen_text import printable
from offerd.wire.codec import encode_message
from offerd_master.core import (
    failover,
    files,
    following,
    modes,
    offers,
    partition,
    recordings,
    recovery,
    rights,
)
from offerd_master.core.caller import Caller
from offerd_master.core.change_index import Described
from offerd_master.core.cluster import MAX_INFO_BYTES, SLAVE_AHEAD, Cluster
from offerd_master.core.endings import end_other_users, shut_down
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.pool import Pool
from offerd_master.core.state import Executor, Framework, Slave, SlaveState, Standby, Task
from offerd_master.core.tasks import (
    add_executor,
    add_task,
    forget_if_empty,
    kill,
    lose_task,
    remove_executor,
)

MAX_SLAVE_AMOUNT = 1 << 50
"""Largest amount of one resource on one slave (a pebibyte), so that no sum over a cluster outgrows 63 bits."""
MAX_RESOURCE_NAME = 40
MAX_MET = 1000
"""A slave may report frameworks that the master does not know yet. More than this many from one slave are not taken over, but
ended there: it could invent them."""
MAX_OWED = 200_000
"""Tasks reported lost that are remembered for forgotten slaves: about 40 MB."""


# -- Registration -------------------------------------------------------------------------------------------------------


def register_slave(c: Cluster, caller: Caller, message: m.RegisterSlave, now: float) -> None:
    """Handle a registration: of a new slave, of a known one that returns (the peer may be new), or a repeated one."""
    peer, known = caller.peer, c.peers.get(caller.peer)
    if isinstance(known, Framework | Standby):
        c.drop(peer, "it has registered as a framework, and now says it is a slave")
        return
    if message.protocol < m.OLDEST_PROTOCOL:
        text = f"this slave speaks protocol {message.protocol}, the master {m.OLDEST_PROTOCOL} and later; upgrade it"
        c.send(peer, m.SlaveRefused(Reason.PROTOCOL_TOO_OLD, text))
        return
    if fault := _fault(message):
        c.send(peer, m.SlaveRefused(Reason.SLAVE_INVALID, fault))
        c.log(f"refused a slave: {fault}", "warning")
        return
    c.note_epoch(message.epoch, SLAVE_AHEAD)
    slave_id = message.slave.slave_id or (known.slave_id if known is not None else SlaveID(""))
    if known is not None and known.slave_id != slave_id:
        disconnect(c, known)
    slave = c.slaves.get(slave_id) or c.lost_slaves.get(slave_id)
    is_repeated = slave is not None and peer == slave.last_peer
    had_executors_of = [] if slave is None else list(slave.executors)
    if slave is None:
        slave = _enter(c, caller, slave_id, message, now)
    else:
        _return(c, slave, peer, message.since_s, is_repeated, now)
    # A slave of an earlier master is logged like one that returns. Thousands come at once then: to write out their resources
    # would cost as much as the rest of their registrations.
    did = (
        f"is back with {len(message.tasks)} tasks"
        if slave_id
        else f"registered with {printable(str(message.slave.resources))}"
    )
    c.log(f"slave {slave.slave_id} on {message.slave.hostname} {did}")
    _describe(c, caller, slave, message)
    c.send(peer, m.SlaveRegistered(slave.slave_id, c.master_id, c.settings.ping_interval_s))
    if is_repeated:
        c.send(peer, m.Ping())
    files.send_refused(c, slave)
    _adopt(c, slave, message, now)
    _note_memory(slave, message.memory_note)
    files.renew(c, slave, had_executors_of)
    modes.hear_mode(c, slave, message.mode, is_registration=True)
    modes.set_disk(c, slave, is_full=message.disk_full)
    for framework_id in had_executors_of:
        forget_if_empty(c, c.frameworks[framework_id])
    c.mark_dirty(slave)
    c.changes.touch(Described(slave))
    c.changes.touch(slave)


def _enter(c: Cluster, caller: Caller, slave_id: SlaveID, message: m.RegisterSlave, now: float) -> Slave:
    """A new record for a slave. It has an id already if an earlier master gave it one."""
    if slave_id:
        recovery.note_return(c, now)
    slave = Slave(slave_id or SlaveID(c.new_id("S", caller.name)), caller.peer, now)
    slave.there_since = now - message.since_s
    slave.reported_lost = _take_owed(c, slave.slave_id)
    return slave


def _describe(c: Cluster, caller: Caller, slave: Slave, message: m.RegisterSlave) -> None:
    """Take over the slave's description, and count its resources."""
    c.slaves[slave.slave_id] = slave
    c.peers[caller.peer] = slave
    slave.last_peer = caller.peer
    info = msgspec.structs.replace(
        message.slave,
        slave_id=slave.slave_id,
        files_address=files.address_of(c, caller, slave.slave_id, message),
    )
    files.take_secret(slave, message.files)
    slave.describe(info, c.settings.minimum_offer)
    c.add_total(slave.total)


def _return(c: Cluster, slave: Slave, peer: PeerID, since_s: float, is_repeated: bool, now: float) -> None:
    """Prepare a known slave for its new description: its tasks stay, and stay charged; all else goes.

    A slave that registers again over the same connection has not read our answer, and may not read launches either. So this
    is no sign of life, and it is not offered before it has answered.
    """
    was_lost = slave.state is SlaveState.LOST
    slave.there_since = now if was_lost else max(slave.there_since, now - since_s)
    if slave.peer is not None and slave.peer != peer:
        c.peers.pop(slave.peer, None)
        recordings.slave_gone(c, slave)
    slave.is_unresponsive = is_repeated
    if is_repeated:
        c.unmark(slave)
    offers.rescind(c, slave.offers.values())
    for framework_id, mine in list(slave.executors.items()):
        for executor_id in list(mine):
            remove_executor(c, c.frameworks[framework_id], slave, executor_id)
    if c.lost_slaves.pop(slave.slave_id, None) is None:
        c.remove_total(slave.total)
    slave.peer = peer
    slave.state = SlaveState.ACTIVE
    slave.since = now
    if not is_repeated:
        slave.heard = True
        slave.unanswered = 0
    slave.offer_again_at = 0.0


def _fault(message: m.RegisterSlave) -> str:
    """The fault of a registration, as one line for its sender; empty if it is good."""
    info = message.slave
    resources = info.resources
    names = [*resources.scalars, *resources.ranges, *resources.sets]
    amounts = [
        *resources.scalars.values(),
        *(span[1] for spans in resources.ranges.values() for span in spans),
    ]
    ids = [
        *(text for e in message.executors for text in (e.framework.framework_id, e.executor_id)),
        *(text for t in message.tasks for text in (t.framework_id, t.executor_id, t.task_id)),
    ]
    if info.slave_id and not is_valid_id(info.slave_id):
        return "its slave id is not a valid id"
    if not resources:
        return "it has no resources"
    if any(amount > MAX_SLAVE_AMOUNT for amount in amounts) or any(
        len(name) > MAX_RESOURCE_NAME for name in names
    ):
        return f"a resource has more than {MAX_SLAVE_AMOUNT} units or a name of more than {MAX_RESOURCE_NAME} characters"
    if not 0 <= info.long_fraction <= 1 or not 0 <= info.short_limit_s < math.inf:
        return "the long fraction must be 0 to 1, and the short limit a number of seconds, zero or more"
    if not 0 <= info.max_kill_grace_s < math.inf:
        return "the longest kill grace must be a number of seconds, zero or more"
    if info.minimum_offer is not None and not resources.covers(info.minimum_offer):
        return (
            f"it has {printable(str(resources))}, less than its minimum offer of {printable(str(info.minimum_offer))}; "
            "it would never be offered"
        )
    if not all(map(is_valid_id, ids)):
        return "a task, executor or framework of it has an id that is not valid"
    if len(encode_message(info)) > MAX_INFO_BYTES:
        return f"its description is longer than {MAX_INFO_BYTES} bytes; give it fewer attributes"
    return ""


# -- Rebuilding the accounts --------------------------------------------------------------------------------------------


def _adopt(c: Cluster, slave: Slave, message: m.RegisterSlave, now: float) -> None:
    """Rebuild the accounts of a slave from the executors and tasks that it reports. What was not known before counts only as
    far as the slave has room: a report must not change the shares of other frameworks by more.
    """
    missing = dict(slave.tasks)
    room = Pool(slave.total)
    for task in missing:
        room.take(task.resources)
    slave.tasks.clear()
    slave.long_used = {}
    for running in message.executors:
        framework = _framework(c, slave, running.framework.framework_id, running.framework, now)
        if framework is not None and slave.executor(framework.framework_id, running.executor_id) is None:
            counted = room.part_of(running.resources)
            room.take(counted)
            executor = Executor(counted, running.framework.user)
            add_executor(c, framework, slave, running.executor_id, executor)
            c.allocator.charge(framework.framework_id, counted)
            slave.free.take(counted)
    for task in missing:
        task.is_long = slave.is_long(task.time_limit_s, task.kill_grace_s)
        slave.free.take(task.resources)
        add_task(c, task)
    for described in message.tasks:
        if described.state.terminal and described.framework_id not in c.frameworks:
            # It holds nothing, and the message does not say how long its framework's scheduler may be away.
            continue
        framework = _framework(c, slave, described.framework_id, FrameworkInfo(""), now)
        if framework is None:
            continue
        mine = framework.tasks.get(described.task_id)
        if mine is None:
            _adopt_task(c, framework, slave, described, room, now)
        elif mine.slave is slave:
            missing.pop(mine, None)
            mine.missing_since = None
            _refresh(c, mine, described, now)
        else:
            c.log(
                f"task {described.task_id} runs on {slave.slave_id} and on {mine.slave.slave_id}: killing it on the first"
            )
            c.send(slave.peer, m.KillTask(described.framework_id, described.task_id, slave.slave_id, 0.0))
    for task in missing:
        if task.missing_since is None:
            task.missing_since = now
            c.timers.set(now + c.settings.missing_task_grace_s, _still_missing, (task, now))
    partition.missing_after_return(c, slave, message, now)
    if slave.reported_lost:
        named = {(described.framework_id, described.task_id) for described in message.tasks}
        if unnamed := slave.reported_lost - named:
            c.timers.set(now + c.settings.missing_task_grace_s, _forget_lost, (slave, now, unnamed))
    for framework_id in {*slave.executors, *(task.framework.framework_id for task in slave.tasks)}:
        if c.frameworks[framework_id].ended:
            shut_down(c, slave, framework_id)
    end_other_users(c, slave, message.executors)
    rights.look_at_slave(c, slave, message.executors)


def _framework(
    c: Cluster, slave: Slave, framework_id: FrameworkID, info: FrameworkInfo, now: float
) -> Framework | None:
    """The framework of a reported executor or task; it is entered if it is new. None if there can be none: it began with this
    master and is forgotten, or this slave has named too many. Then what runs is ended.
    """
    framework = c.frameworks.get(framework_id)
    if framework is not None:
        return framework
    ended = c.ended_frameworks.pop(framework_id, None)
    if ended is not None:
        c.frameworks[framework_id] = ended
        c.budgets.enter(framework_id, ended.info)
        c.budgets.says_more(framework_id, ended.filters_bytes)
        c.add_account(ended)
        return ended
    if c.is_own_id(framework_id) or len(slave.met) >= MAX_MET:
        shut_down(c, slave, framework_id)
        return None
    framework = failover.adopt(c, framework_id, info, now)
    failover.take_as_hearsay(c, framework, slave, now)
    return framework


def _adopt_task(
    c: Cluster, framework: Framework, slave: Slave, described: RunningTask, room: Pool, now: float
) -> None:
    """Enter a reported task that was not counted. One that has ended holds nothing: its status is on the way."""
    if described.state.terminal:
        return
    if described.task_id in framework.called_unknown:
        slave.reported_lost.add((framework.framework_id, described.task_id))
    awaited = partition.come_back(c, slave, described, framework) if framework.unreachable else None
    if awaited is None and _is_none_of_ours(c, framework, slave, described):
        c.send(slave.peer, m.KillTask(framework.framework_id, described.task_id, slave.slave_id, 0.0))
        return
    task = awaited or Task(
        described.task_id,
        framework,
        slave,
        described.executor_id,
        room.part_of(described.resources),
        slave.is_long(described.time_limit_s, described.kill_grace_s),
        described.state,
        now - described.launched_s,
        described.time_limit_s,
        described.name[:MAX_TEXT],
        _running_since(described, now),
        described.container_id,
        heard_at=now,
        is_adopted=True,
        kill_grace_s=described.kill_grace_s,
    )
    room.take(task.resources)
    c.allocator.charge(framework.framework_id, task.resources)
    slave.free.take(task.resources)
    add_task(c, task)
    if task.is_reported_lost:
        kill(c, task, 0.0)
    elif task.kill is not None:
        c.send(slave.peer, task.kill)


def _running_since(described: RunningTask, now: float) -> float | None:
    """When the task began to run; a slave of an earlier release does not report it."""
    if described.ran_s is not None:
        return now - described.ran_s
    return now if described.state is TaskState.RUNNING else None


def _is_none_of_ours(c: Cluster, framework: Framework, slave: Slave, described: RunningTask) -> bool:
    """Whether this master cannot have launched an unknown task: it has launched all tasks of frameworks that began with it."""
    if framework.ended or not c.is_own_id(framework.framework_id):
        return False
    return (framework.framework_id, described.task_id) not in slave.reported_lost


def _refresh(c: Cluster, task: Task, described: RunningTask, now: float) -> None:
    """Update a known task. A terminal state is not taken over: its status, with the reason, is on the way."""
    task.container_id = described.container_id or task.container_id
    task.heard_at = now
    if described.state.terminal:
        return
    if task.running_since is None:
        task.running_since = _running_since(described, now)
    task.state = described.state
    c.changes.touch(task)
    if task.kill is not None:
        c.send(task.slave.peer, task.kill)


def _still_missing(c: Cluster, subject: tuple[Task, float], now: float) -> None:
    """A task that its slave did not name is lost, unless something was heard of it since."""
    task, asked_at = subject
    slave = task.slave
    if task not in slave.tasks or task.missing_since != asked_at:
        return
    task.missing_since = None
    if task.heard_at > asked_at:
        return
    lose_task(c, task, Reason.SLAVE_RESTARTED, "its slave came back and does not know it", now)
    slave.reported_lost.discard((task.framework.framework_id, task.task_id))
    forget_if_empty(c, task.framework)


def _forget_lost(
    c: Cluster, subject: tuple[Slave, float, set[tuple[FrameworkID, TaskID]]], now: float
) -> None:
    """Forget tasks reported lost that a returning slave neither named nor reported on since: it does not have them."""
    slave, asked_at, unnamed = subject
    if slave.since == asked_at:
        slave.reported_lost -= unnamed - {(task.framework.framework_id, task.task_id) for task in slave.tasks}


# -- Silence and departure ----------------------------------------------------------------------------------------------


def disconnect(c: Cluster, slave: Slave) -> None:
    """The slave cannot be reached. Its tasks go on; it is lost only when it has missed its pings."""
    if slave.peer is not None:
        c.peers.pop(slave.peer, None)
    slave.peer = None
    recordings.slave_gone(c, slave)
    c.changes.touch(slave)
    offers.rescind(c, slave.offers.values())
    c.unmark(slave)


def lose(c: Cluster, slave: Slave, text: str, now: float, *, may_return: bool = True) -> None:
    """The slave is gone: remove its offers, its tasks and its part of the total."""
    c.log(
        f"slave {slave.slave_id} on {slave.info.hostname} is lost with {len(slave.tasks)} tasks: {text}",
        "warning",
    )
    disconnect(c, slave)
    slave.state = SlaveState.LOST
    slave.since = slave.there_since = now
    slave.is_unresponsive = slave.is_disk_full = False
    partition.lost_again(c, slave, now, may_return=may_return)
    touched = {framework_id: c.frameworks[framework_id] for framework_id in slave.executors}
    for task in list(slave.tasks):
        touched[task.framework.framework_id] = task.framework
        task.missing_since = None
        if partition.is_awaited(task.framework) and may_return and not task.is_reported_lost:
            partition.make_unreachable(c, task, text, now)
            continue
        lose_task(c, task, Reason.SLAVE_LOST, text, now)
        slave.reported_lost.add((task.framework.framework_id, task.task_id))
    for framework_id, mine in list(slave.executors.items()):
        for executor_id in list(mine):
            remove_executor(c, c.frameworks[framework_id], slave, executor_id)
    c.remove_total(slave.total)
    del c.slaves[slave.slave_id]
    c.lost_slaves[slave.slave_id] = slave
    c.changes.touch(slave)
    if len(c.lost_slaves) > c.settings.max_lost_slaves:
        _forget_oldest(c)
    for framework in c.frameworks.values():
        if not framework.ended:
            c.send(framework.peer, m.SlaveLost(slave.slave_id))
    for framework in touched.values():
        forget_if_empty(c, framework)


def _forget_oldest(c: Cluster) -> None:
    """Forget the oldest lost slave. The tasks that it must end if it returns are remembered longer. A slave stays while its
    tasks are waited for.
    """
    oldest = next((slave for slave in c.lost_slaves.values() if not slave.unreachable), None)
    if oldest is None:
        return
    del c.lost_slaves[oldest.slave_id]
    following.forget_slave(c, oldest)
    if oldest.reported_lost:
        c.owed[oldest.slave_id] = oldest.reported_lost
        c.tasks_owed += len(oldest.reported_lost)
        while c.tasks_owed > MAX_OWED:
            _take_owed(c, next(iter(c.owed)))


def _take_owed(c: Cluster, slave_id: SlaveID) -> set[tuple[FrameworkID, TaskID]]:
    owed = c.owed.pop(slave_id, set())
    c.tasks_owed -= len(owed)
    return owed


def ping_slaves(c: Cluster, now: float) -> None:
    """Ask each slave for a sign of life; any message since the last ping is one."""
    for slave in list(c.slaves.values()):
        slave.unanswered = 0 if slave.heard else slave.unanswered + 1
        slave.heard = False
        if slave.unanswered >= c.settings.max_missed_pings:
            lose(c, slave, f"it missed {slave.unanswered} pings", now)
        else:
            c.send(slave.peer, m.Ping())
            if any(_is_overdue(c, task, now) for task in slave.tasks):
                # The launch may have been lost although the connection stands: a new registration will show it.
                c.send(slave.peer, m.NotRegistered())


def _is_overdue(c: Cluster, task: Task, now: float) -> bool:
    """Whether a task was launched long ago and nothing has been heard of it since."""
    if task.state is not TaskState.STAGING:
        return False
    return now - max(task.launched_at, task.heard_at) > c.settings.staging_doubt_s


def expel(c: Cluster, slave: Slave, why: str, now: float) -> None:
    """The slave's key is gone: its tasks are lost for their schedulers, and end if it still obeys."""
    for framework_id in {*slave.executors, *(task.framework.framework_id for task in slave.tasks)}:
        shut_down(c, slave, framework_id, reason=Reason.NOT_AUTHORIZED)
    c.send(slave.peer, m.SlaveRefused(Reason.KEY_REVOKED, why, c.settings.operator_grace_s))
    lose(c, slave, why, now, may_return=False)
    forget(c, slave)


def unregister_slave(c: Cluster, slave: Slave, message: m.UnregisterSlave, now: float) -> None:
    lose(c, slave, "it has unregistered", now, may_return=False)
    forget(c, slave)


def _note_memory(slave: Slave, note: str) -> None:
    """Note on each task why its memory is not limited. The slave reported it only once, perhaps to an earlier master."""
    for task in slave.tasks:
        if task.state is TaskState.RUNNING and task.resources.mem_bytes and not task.message:
            task.message = note


def forget(c: Cluster, slave: Slave) -> None:
    """Forget a lost slave that does not come back."""
    c.lost_slaves.pop(slave.slave_id, None)
    following.forget_slave(c, slave)
    _take_owed(c, slave.slave_id)


def slave_usage(c: Cluster, slave: Slave, message: m.SlaveUsage, now: float) -> None:
    slave.usage = message
    c.changes.touch(slave)
    if mode := message.mode or ("draining" if message.draining else ""):
        modes.hear_mode(c, slave, mode)
    modes.set_disk(c, slave, is_full=message.disk_full)


def hear(c: Cluster, slave: Slave) -> None:
    """The slave has answered, so it can hear us."""
    slave.is_unresponsive = False
    c.mark_dirty(slave)
