"""Tasks of lost slaves: they are lost too, or unreachable until their framework's time-out is over.

A framework with an `unreachable_timeout_s` gets `UNREACHABLE`, which is not an end. If the slave returns in time with the task,
the task goes on, and its scheduler gets its state again. Otherwise it is `LOST`, and is killed should it return later. An
unreachable task holds nothing, since its slave is not in the accounts. All cases are listed in docs/fault-tolerance.md,
"When a slave dies".
"""

from __future__ import annotations

from offerd import messages as m
from offerd.messages import Reason, TaskState, TaskStatus
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Framework, Slave, Task
from offerd_master.core.tasks import MASTER, end_wait, free_task, remember, report_state


def is_awaited(framework: Framework) -> bool:
    """Whether this framework's tasks stay open while their slave is away."""
    return framework.info.unreachable_timeout_s > 0 and not framework.ended


def _patience_s(c: Cluster, framework: Framework) -> float:
    return min(framework.info.unreachable_timeout_s, c.settings.max_failover_timeout_s)


def make_unreachable(c: Cluster, task: Task, text: str, now: float) -> None:
    """The task's slave is lost: free its resources, but keep the task."""
    framework = task.framework
    free_task(c, task)
    task.state = TaskState.UNREACHABLE
    framework.unreachable[task.task_id] = task
    task.slave.unreachable += 1
    c.changes.touch(task)
    _report(c, task, TaskState.UNREACHABLE, Reason.SLAVE_LOST, text)
    c.timers.set(now + _patience_s(c, framework), _patience_over, (task, task.slave.since))


def _patience_over(c: Cluster, subject: tuple[Task, float], now: float) -> None:
    task, lost_at = subject
    if task.framework.unreachable.get(task.task_id) is task and task.slave.since == lost_at:
        give_up(c, task, Reason.SLAVE_LOST, "its slave was lost and did not come back in time", now)


def give_up(c: Cluster, task: Task, reason: Reason, text: str, now: float) -> None:
    """Call the task lost for good: if it comes back, it is killed."""
    framework = task.framework
    end_wait(task)
    task.slave.reported_lost.add((framework.framework_id, task.task_id))
    status = _report(c, task, TaskState.LOST, reason, text)
    remember(c, task, status, now)


def come_back(c: Cluster, slave: Slave, described: m.RunningTask, framework: Framework) -> Task | None:
    """The task as it was before its slave was lost, if its framework has waited for it; the scheduler gets its state."""
    task = framework.unreachable.get(described.task_id)
    if task is None or task.slave is not slave:
        return None
    end_wait(task)
    task.state = described.state
    report_state(c, framework, task, Reason.SLAVE_RETURNED)
    return task


def missing_after_return(c: Cluster, slave: Slave, registration: m.RegisterSlave, now: float) -> None:
    """Tasks that were waited for, but are not named by the returning slave, are lost. Those that ended meanwhile are named with
    their terminal state; their statuses are on the way.
    """
    if not slave.unreachable:
        return
    named = {(described.framework_id, described.task_id) for described in registration.tasks}
    for framework in list(c.frameworks.values()):
        for task in [task for task in framework.unreachable.values() if task.slave is slave]:
            if (framework.framework_id, task.task_id) not in named:
                give_up(c, task, Reason.SLAVE_RESTARTED, "its slave came back and does not know it", now)


def lost_again(c: Cluster, slave: Slave, now: float, *, may_return: bool) -> None:
    """A returned slave is lost again. Tasks whose end it has not reported meanwhile are waited for anew."""
    if not slave.unreachable:
        return
    for framework in list(c.frameworks.values()):
        for task in [task for task in framework.unreachable.values() if task.slave is slave]:
            if may_return:
                c.timers.set(now + _patience_s(c, framework), _patience_over, (task, slave.since))
            else:
                give_up(c, task, Reason.SLAVE_LOST, "its slave has gone for good", now)


def _report(c: Cluster, task: Task, state: TaskState, reason: Reason, text: str) -> TaskStatus:
    status = TaskStatus(
        task.task_id,
        state,
        reason=reason,
        source=MASTER,
        message=text,
        slave_id=task.slave.slave_id,
        executor_id=task.executor_id,
        container_id=task.container_id,
    )
    c.send(task.framework.peer, m.StatusUpdate(task.framework.framework_id, status))
    return status
