"""Running tasks: status updates, acknowledgements, kills, reconciliation, messages between schedulers and executors.

A task's resources are held until its terminal status arrives, not until that is acknowledged. A slave's statuses of its own
tasks are forwarded whatever the master thinks of them: the scheduler tells duplicates apart, and only its acknowledgement ends
the slave's repeating. Statuses of other slaves' tasks are ignored. The master itself acknowledges if the scheduler is gone for
good, or has had the end that the master remembers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from sys import intern
from typing import TypeVar

from offerd import messages as m
from offerd.ids import ExecutorID, TaskID, is_valid_id
from offerd.messages import Reason, TaskState, TaskStatus
from offerd.protocol.change_messages import EndedTask
from offerd.resources import BYTE_SCALARS
from offerd.values.bounds import MAX_NAMES
from offerd.values.screen_text import printable
from offerd_master.core.actions import Send
from offerd_master.core.change_index import GoneTask
from offerd_master.core.cluster import Cluster, Reconciling
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.recovery import MAX_REMEMBERED, remember_unknown
from offerd_master.core.state import Executor, Framework, Slave, Task

MASTER = "master"
MAX_LIVE_TEXT = 100
"""Longest message, in characters, that is kept of a running task: there may be many."""
MAX_UNACKNOWLEDGED = 10_000
"""Ends remembered for a framework until it acknowledges them, or as many as its history holds if that is more. A scheduler that
never acknowledges loses only this memory.
"""
RECONCILED_AT_ONCE = 2_000
"""Tasks reported in one tick to frameworks that have asked for all of theirs."""


# -- The life of a task -------------------------------------------------------------------------------------------------


def add_task(c: Cluster, task: Task) -> None:
    """Enter a task into the accounts of its framework, slave and executor. The caller takes its resources from `free` and
    charges them.
    """
    framework, slave = task.framework, task.slave
    framework.tasks[task.task_id] = task
    slave.tasks[task] = None
    c.tasks_running += 1
    c.changes.touch(task)
    c.changes.touch(slave)
    if task.is_long:
        held = slave.long_used
        for name, amount in task.resources.quantities().items():
            held[name] = held.get(name, 0) + amount
    executor = slave.executor(framework.framework_id, task.executor_id)
    if executor is not None:
        executor.tasks += 1


def end_task(c: Cluster, task: Task, status: TaskStatus, now: float) -> None:
    """Free what the task held, and keep a small record of it."""
    executor = task.slave.executor(task.framework.framework_id, task.executor_id)
    free_task(c, task)
    c.tasks_ended += 1
    if status.reason == Reason.TASK_TIMEOUT:
        c.counts.timeouts += 1
        _count_wasted(c, task, now)
    if not task.slave.reported_lost or not task.is_reported_lost:
        remember(c, task, status, now, "" if executor is None else executor.user)
    else:
        c.changes.remove(task, GoneTask(task.framework.framework_id, task.task_id, task.launched_at))


def free_task(c: Cluster, task: Task) -> None:
    """Remove the task from the accounts of its framework, slave and executor."""
    framework, slave, resources = task.framework, task.slave, task.resources
    framework_id = framework.framework_id
    del framework.tasks[task.task_id]
    del slave.tasks[task]
    c.tasks_running -= 1
    if task.is_long:
        held = slave.long_used
        for name, amount in resources.quantities().items():
            held[name] -= amount
    c.allocator.refund(framework_id, resources)
    slave.free.give(resources, slave.total)
    c.mark_dirty(slave)
    c.changes.touch(slave)
    executor = slave.executor(framework_id, task.executor_id)
    if executor is not None:
        executor.tasks -= 1
        if executor.exited and executor.tasks == 0:
            remove_executor(c, framework, slave, task.executor_id)


def _count_wasted(c: Cluster, task: Task, now: float) -> None:
    """Count work lost to a time limit, in units times seconds: cpus, bytes, numbers of ports."""
    ran_s = now - (task.launched_at if task.running_since is None else task.running_since)
    if task.is_adopted and task.time_limit_s is not None:
        ran_s = min(ran_s, task.time_limit_s)  # only its slave says that it ran longer
    accounts = (task.framework.wasted_resource_s, c.wasted_resource_s)
    scalars = task.resources.scalars
    for name, amount in task.resources.quantities().items():
        units = amount / 1000 if name in scalars and name not in BYTE_SCALARS else amount
        for wasted in accounts:
            if name in wasted or len(wasted) < MAX_NAMES:
                wasted[name] = wasted.get(name, 0.0) + units * ran_s


def remember(c: Cluster, task: Task, status: TaskStatus, now: float, user: str = "") -> None:
    """Record and count an end. `user`: as which the task ran, if that is known."""
    framework = task.framework
    state = status.state._value_
    framework.ended_counts[state] = framework.ended_counts.get(state, 0) + 1
    c.ended_counts[state] = c.ended_counts.get(state, 0) + 1
    record = EndedTask(
        task.task_id,
        framework.framework_id,
        task.slave.slave_id,
        task.executor_id,
        status.state,
        task.name,
        task.resources,
        task.time_limit_s,
        status.reason[:MAX_TEXT],
        status.message[:MAX_TEXT],
        status.exit_status,
        task.launched_at,
        task.running_since,
        now,
        status.container_id or task.container_id,
        task.is_command,
        status.output,
        user,
        status.usage,
    )
    c.history.add(framework.history, record)
    c.changes.end(task, record)


def end_wait(task: Task) -> None:
    """Wait no longer for an unreachable task: it is back, has ended, or is given up."""
    del task.framework.unreachable[task.task_id]
    task.slave.unreachable -= 1


def lose_task(c: Cluster, task: Task, reason: Reason, text: str, now: float) -> None:
    """End a task that no slave will report on. Its scheduler is sent the status, unless it has had it before."""
    is_news = not task.is_reported_lost
    status = TaskStatus(
        task.task_id,
        TaskState.LOST,
        reason=reason,
        source=MASTER,
        message=text,
        slave_id=task.slave.slave_id,
        executor_id=task.executor_id,
        container_id=task.container_id,
    )
    end_task(c, task, status, now)
    if is_news:
        c.send(task.framework.peer, m.StatusUpdate(task.framework.framework_id, status))


def add_executor(
    c: Cluster, framework: Framework, slave: Slave, executor_id: ExecutorID, executor: Executor
) -> None:
    """An executor begins. Tasks may be there before it: those of an executor that a returning slave did not name."""
    executor.tasks = sum(
        task.framework is framework and task.executor_id == executor_id for task in slave.tasks
    )
    slave.executors.setdefault(framework.framework_id, {})[executor_id] = executor
    framework.executors_running += 1
    c.changes.touch(slave)


def remove_executor(c: Cluster, framework: Framework, slave: Slave, executor_id: ExecutorID) -> None:
    """The executor has ended: free its own resources."""
    mine = slave.executors[framework.framework_id]
    executor = mine.pop(executor_id)
    if not mine:
        del slave.executors[framework.framework_id]
    framework.executors_running -= 1
    c.changes.touch(slave)
    if executor.resources:
        c.allocator.refund(framework.framework_id, executor.resources)
        slave.free.give(executor.resources, slave.total)
        c.mark_dirty(slave)


def forget_if_empty(c: Cluster, framework: Framework) -> None:
    """Remove an ended framework that holds nothing more from the accounts; a bounded number is remembered."""
    if framework.tasks or framework.executors_running or not framework.ended:
        return
    framework_id = framework.framework_id
    del c.frameworks[framework_id]
    c.budgets.says_more(framework_id, -framework.filters_bytes)
    c.budgets.leave(framework_id, framework.info)
    c.allocator.remove_framework(framework_id)
    framework.unacknowledged.clear()
    c.budgets.remembers(framework_id, -len(framework.called_unknown))
    framework.called_unknown.clear()
    c.ended_frameworks[framework_id] = framework
    if len(c.ended_frameworks) > c.settings.max_ended_frameworks:
        oldest = next(iter(c.ended_frameworks))
        c.history.forget(c.ended_frameworks.pop(oldest).history)


# -- Messages of slaves -------------------------------------------------------------------------------------------------


def status_update(c: Cluster, slave: Slave, message: m.StatusUpdate, now: float) -> None:
    framework = c.frameworks.get(message.framework_id)
    status = message.status
    c.counts.status_updates += 1
    if status.slave_id != slave.slave_id and status.slave_id:
        return  # a slave may not report for another
    if framework is None:
        # A new master may get a status before the scheduler that must have it has come. The slave repeats it until then.
        if message.framework_id in c.ended_frameworks or not c.may_return(message.framework_id, now):
            _acknowledge(c, slave, message)
        return
    if slave.reported_lost and (message.framework_id, status.task_id) in slave.reported_lost:
        _settle_lost_task(c, framework, slave, message, now)
        return
    task = framework.tasks.get(status.task_id)
    if task is not None:
        if task.slave is not slave:
            # The first task of this id was lost with its slave, and the id was used again: this status is of the first.
            _acknowledge(c, slave, message)
            return
        task.heard_at = now
        if status.state.terminal:
            if status.sequence:
                _await_acknowledgement(c, framework, slave, status)
            end_task(c, task, status, now)
        elif task.state is not status.state or not task.container_id:
            task.state = status.state
            task.container_id = status.container_id
            # Mostly the same few texts, so each is stored once.
            task.message = intern(status.message[:MAX_LIVE_TEXT])
            if task.running_since is None and status.state is TaskState.RUNNING:
                task.running_since = now
            c.changes.touch(task)
        else:
            c.counts.status_repeats += 1
    elif _was_heard(framework, status.task_id):
        c.counts.status_repeats += 1
        # The acknowledgement was lost when the slave stopped, and the scheduler may have forgotten the task meanwhile.
        _acknowledge(c, slave, message)
        return
    elif (
        framework.unreachable and status.state.terminal and _end_unreachable(c, framework, slave, status, now)
    ):
        pass  # forwarded, because it has been waited for
    elif not _may_be_its(c, framework, slave, status.task_id):
        _acknowledge(c, slave, message)
        return
    if framework.ended:
        _acknowledge(c, slave, message)
        forget_if_empty(c, framework)
    elif framework.peer is not None:
        c.out.append(Send(framework.peer, message))


def _was_heard(framework: Framework, task_id: TaskID) -> bool:
    """Whether its scheduler has had the task's end. Valid because `unacknowledged` forgets no end before the history does."""
    if task_id not in framework.history.by_id or task_id in framework.unacknowledged:
        return False
    return task_id not in framework.unreachable


def _may_be_its(c: Cluster, framework: Framework, slave: Slave, task_id: TaskID) -> bool:
    """Whether a task that this master does not count may have been the slave's. If the framework began with this master, only a
    task whose end may still be repeated. For an earlier master's framework nobody here can know; its scheduler gets the status,
    and knows where it launched the task.
    """
    waiting = framework.unacknowledged.get(task_id)
    if waiting is not None:
        c.counts.status_repeats += 1
        return waiting[1] == slave.slave_id
    return not c.is_own_id(framework.framework_id)


def _end_unreachable(c: Cluster, framework: Framework, slave: Slave, status: TaskStatus, now: float) -> bool:
    """End a task that was waited for: it ended while its slave was away. False if there is none."""
    task = framework.unreachable.get(status.task_id)
    if task is None or task.slave is not slave:
        return False
    end_wait(task)
    if status.sequence:
        _await_acknowledgement(c, framework, slave, status)
    remember(c, task, status, now)
    return True


def _settle_lost_task(
    c: Cluster, framework: Framework, slave: Slave, message: m.StatusUpdate, now: float
) -> None:
    """A status of a task that was reported lost with its slave: its scheduler has had its one terminal status. So the master
    acknowledges this one, has the task killed, and frees what it holds when it ends.
    """
    status = message.status
    task = framework.tasks.get(status.task_id)
    _acknowledge(c, slave, message)
    if not status.state.terminal:
        if task is None or task.slave is not slave:
            c.send(slave.peer, m.KillTask(message.framework_id, status.task_id, slave.slave_id, 0.0))
        return
    if task is not None and task.slave is slave:
        end_task(c, task, status, now)
    slave.reported_lost.discard((message.framework_id, status.task_id))
    forget_if_empty(c, framework)


def _await_acknowledgement(c: Cluster, framework: Framework, slave: Slave, status: TaskStatus) -> None:
    waiting = framework.unacknowledged
    waiting.pop(status.task_id, None)  # an id that is used again moves to the end
    waiting[status.task_id] = (status.sequence, slave.slave_id)
    if len(waiting) > max(MAX_UNACKNOWLEDGED, c.settings.max_ended_tasks_per_framework):
        del waiting[next(iter(waiting))]


def _acknowledge(c: Cluster, slave: Slave, message: m.StatusUpdate) -> None:
    """Acknowledge on behalf of a scheduler that is gone."""
    if message.status.sequence:
        update = (message.status.task_id, message.status.sequence)
        c.send(slave.peer, m.Acknowledge(message.framework_id, slave.slave_id, [update]))


def executor_exited(c: Cluster, slave: Slave, message: m.ExecutorExited, now: float) -> None:
    """The slave reports the tasks themselves. While tasks are open the executor stays charged: one of ours may be on the way
    and start it again.
    """
    framework = c.frameworks.get(message.framework_id)
    executor = slave.executor(message.framework_id, message.executor_id)
    if framework is None or executor is None:
        return  # this slave has no such executor
    executor.exited = True
    if executor.tasks == 0:
        remove_executor(c, framework, slave, message.executor_id)
    c.send(
        framework.peer,
        m.ExecutorLost(slave.slave_id, message.executor_id, message.exit_status, message.message),
    )
    forget_if_empty(c, framework)


def message_from_executor(c: Cluster, slave: Slave, message: m.FrameworkMessage, now: float) -> None:
    framework = c.frameworks.get(message.framework_id)
    is_its = slave.executor(message.framework_id, message.executor_id) is not None
    if framework is not None and is_its and message.slave_id == slave.slave_id:
        c.send(framework.peer, message)


# -- Messages of schedulers ---------------------------------------------------------------------------------------------

T = TypeVar("T", bound=m.Acknowledge | m.FrameworkMessage | m.KillTask)


def own(
    handler: Callable[[Cluster, Framework, T, float], None],
) -> Callable[[Cluster, Framework, T, float], None]:
    """A scheduler may speak for its own framework only; one that names another is dropped."""

    def checked(c: Cluster, framework: Framework, message: T, now: float) -> None:
        if message.framework_id == framework.framework_id:
            handler(c, framework, message, now)
        elif framework.peer is not None:
            c.drop(
                framework.peer,
                f"framework {framework.framework_id} spoke for framework {printable(message.framework_id, 64)}",
            )

    return checked


@own
def acknowledge(c: Cluster, framework: Framework, message: m.Acknowledge, now: float) -> None:
    waiting = framework.unacknowledged
    for task_id, sequence in message.updates:
        if task_id in waiting and waiting[task_id][0] == sequence:
            del waiting[task_id]
    slave = c.slaves.get(message.slave_id)
    if slave is not None:
        c.send(slave.peer, message)


@own
def message_to_executor(c: Cluster, framework: Framework, message: m.FrameworkMessage, now: float) -> None:
    slave = c.slaves.get(message.slave_id)
    if slave is not None:
        c.send(slave.peer, message)


@own
def kill_task(c: Cluster, framework: Framework, message: m.KillTask, now: float) -> None:
    """A task that has ended is skipped, since its end is on the way or was sent; an unknown one is reported lost."""
    if not is_valid_id(message.task_id):
        if framework.peer is not None:
            c.drop(framework.peer, "it asked to kill a task whose id is not valid")
        return
    task = framework.tasks.get(message.task_id) or framework.unreachable.get(message.task_id)
    if task is not None:
        kill(c, task, message.grace_s)
    elif c.may_return(framework.framework_id, now):
        slave = c.slaves.get(message.slave_id)
        if slave is not None:
            c.send(slave.peer, message)
    elif message.task_id not in framework.history.by_id:
        _report_unknown(c, framework, message.task_id)


def kill(c: Cluster, task: Task, grace_s: float | None, reason: str = "") -> None:
    """Send the kill, and keep it to send it again to a slave that was away. Without a valid `grace_s` the task's own grace
    counts. A second kill never gives a task more time.
    """
    if grace_s is not None and not 0 <= grace_s < math.inf:
        grace_s = None
    before = task.kill
    if before is None or before.grace_s is None or (grace_s is not None and grace_s < before.grace_s):
        reason = reason if before is None else before.reason
        before = m.KillTask(task.framework.framework_id, task.task_id, task.slave.slave_id, grace_s, reason)
        task.kill = before
        c.changes.touch(task)
    c.send(task.slave.peer, before)


def reconcile_tasks(c: Cluster, framework: Framework, message: m.ReconcileTasks, now: float) -> None:
    """Answer nothing about a task whose end is not acknowledged while its slave is here: the slave repeats the full status. A
    new master that waits for its slaves answers nothing about unknown tasks either.

    A request for all tasks may concern a hundred thousand: their states are sent in parts, one with each tick. A new request
    starts from the beginning.
    """
    if not message.task_ids:
        if framework.peer is not None:
            c.reconciling[framework.framework_id] = Reconciling(
                framework.peer, deque((*framework.tasks.values(), *framework.unreachable.values()))
            )
        return
    ended = framework.history.by_id
    for task_id in message.task_ids:
        open_task = framework.tasks.get(task_id) or framework.unreachable.get(task_id)
        if open_task is not None and not open_task.is_reported_lost:
            report_state(c, framework, open_task)
        elif (waiting := framework.unacknowledged.get(task_id)) is not None and waiting[1] in c.slaves:
            continue
        elif (record := ended.get(task_id)) is not None:
            status = TaskStatus(
                task_id,
                record.state,
                reason=record.reason or Reason.RECONCILIATION,
                source=MASTER,
                message=record.message,
                exit_status=record.exit_status,
                slave_id=record.slave_id,
                executor_id=record.executor_id,
                container_id=record.container_id,
            )
            c.send(framework.peer, m.StatusUpdate(framework.framework_id, status))
        elif not is_valid_id(task_id):
            if framework.peer is not None:
                c.drop(framework.peer, "it asked for a task whose id is not valid")
            return
        elif not c.may_return(framework.framework_id, now):
            _report_unknown(c, framework, task_id)


def go_on_reconciling(c: Cluster) -> None:
    """Send the next part to frameworks that asked for all, in turn. Tasks that have ended meanwhile were reported already."""
    room = RECONCILED_AT_ONCE
    while c.reconciling and room > 0:
        framework_id = next(iter(c.reconciling))
        asked = c.reconciling.pop(framework_id)
        framework = c.frameworks.get(framework_id)
        if framework is None or framework.peer != asked.peer:
            continue
        part = min(room, len(asked.tasks))
        for _ in range(part):
            task = asked.tasks.popleft()
            is_open = (
                framework.tasks.get(task.task_id) is task or framework.unreachable.get(task.task_id) is task
            )
            if is_open and not task.is_reported_lost:
                report_state(c, framework, task)
        room -= part
        if asked.tasks:
            c.reconciling[framework_id] = asked


def take_as_lost(c: Cluster, framework: Framework, task_ids: list[TaskID]) -> None:
    """Tasks that an earlier master has called lost, as their scheduler says. It may have started the work anew, so a slave that
    has one of them must kill it, whenever it comes. A task that this master launched is another task with the same id.
    """
    for task_id in task_ids[-MAX_REMEMBERED:]:
        task = framework.tasks.get(task_id) or framework.unreachable.get(task_id)
        if task is None:
            if is_valid_id(task_id):
                remember_unknown(c, framework, task_id)
        elif task.is_adopted and not task.is_reported_lost:
            task.slave.reported_lost.add((framework.framework_id, task_id))
            if task_id in framework.unreachable:
                end_wait(task)
                c.changes.remove(task, GoneTask(framework.framework_id, task_id, task.launched_at))
            else:
                kill(c, task, 0.0)


def report_state(
    c: Cluster, framework: Framework, task: Task, reason: Reason = Reason.RECONCILIATION
) -> None:
    """Send the scheduler the task's current state."""
    status = TaskStatus(
        task.task_id,
        task.state,
        reason=reason,
        source=MASTER,
        slave_id=task.slave.slave_id,
        executor_id=task.executor_id,
        container_id=task.container_id,
    )
    c.send(framework.peer, m.StatusUpdate(framework.framework_id, status))


def _report_unknown(c: Cluster, framework: Framework, task_id: TaskID) -> None:
    if not c.is_own_id(framework.framework_id):
        remember_unknown(c, framework, task_id)
    status = TaskStatus(
        task_id,
        TaskState.LOST,
        reason=Reason.TASK_UNKNOWN,
        source=MASTER,
        message="the master knows no such task",
    )
    c.send(framework.peer, m.StatusUpdate(framework.framework_id, status))
