"""Accepted offers become tasks.

Each task is checked alone: a bad one fails with a reason, the others run. A task that can never run as described is
`TASK_ERROR`; one that may run another time is `TASK_LOST`. If an accept names bad offers, all its tasks fail and its other
offers are free again.
"""

from __future__ import annotations

import math

import msgspec

from offerd import messages as m
from offerd.core import slots
from offerd.ids import ExecutorID, SlaveID, TaskID, is_valid_id
from offerd.messages import Reason, TaskInfo, TaskState, TaskStatus
from offerd.resources import Resources
from offerd.values.screen_text import printable
from offerd.wire.codec import MAX_SENT_BYTES
from offerd_master.core import offers
from offerd_master.core.cluster import Cluster
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.pool import Pool
from offerd_master.core.recovery import forget_unknown
from offerd_master.core.state import Executor, Framework, LaunchableExecutor, OutstandingOffer, Slave, Task
from offerd_master.core.tasks import MASTER, add_executor, add_task

_TASK_BYTES = 768
"""More bytes than a task takes on the wire beside its data, name, labels and command: ids, numbers, a few scalars."""
_MAX_PLAIN_SCALARS = 4
_MAX_PLAIN_LETTERS = 64
"""Bound on the summed lengths of their names."""

MAX_RANGES = 256
"""How many separate ranges one task may ask for."""

Fault = tuple[TaskState, Reason, str]


def accept_offers(c: Cluster, framework: Framework, message: m.AcceptOffers, now: float) -> None:
    if not message.tasks:
        offers.decline(c, framework, message.offer_ids, message.refuse_seconds, now)
        return
    taken, fault = _take_offers(c, framework, message)
    if fault is not None:
        for offer in taken:
            offers.give_back(c, framework, offer.slave, offer.resources)
        for info in message.tasks:
            _fail(c, framework, None, info, fault)
        return
    slave = taken[0].slave
    pool = Pool(taken[0].resources)
    for offer in taken[1:]:
        pool.give(offer.resources)
    launched = _accept_tasks(c, framework, slave, pool, message.tasks, now)
    left = pool.freeze()
    if left:
        offers.give_back(c, framework, slave, left)
        refuse_s = 0.0 if any(offer.is_revived for offer in taken) else message.refuse_seconds
        if refuse_s > 0 or not launched:
            offers.refuse(c, framework, slave, left, refuse_s, now)


def _take_offers(
    c: Cluster, framework: Framework, message: m.AcceptOffers
) -> tuple[list[OutstandingOffer], Fault | None]:
    """The open offers of the list, now removed; and the fault of the list, if it has one."""
    taken: list[OutstandingOffer] = []
    text = "" if message.offer_ids else "the accept names no offer"
    for offer_id in message.offer_ids:
        offer = framework.offers.get(offer_id)
        if offer is None:
            text = f"offer {printable(offer_id, 64)} is not open: answered already, rescinded, or never made to this framework"
            continue
        if taken and offer.slave is not taken[0].slave:
            text = f"the offers are of several slaves: {taken[0].slave.slave_id} and {offer.slave.slave_id}"
        offers.remove(c, offer)
        taken.append(offer)
    c.counts.offers_accepted += len(taken)
    return taken, (TaskState.LOST, Reason.OFFER_INVALID, text) if text else None


def _accept_tasks(
    c: Cluster, framework: Framework, slave: Slave, pool: Pool, tasks: list[TaskInfo], now: float
) -> bool:
    """Launch the good tasks in the given order; the pool keeps what is left. Returns whether any was launched."""
    runs: dict[ExecutorID, list[TaskInfo]] = {}
    user = slave.runs_as(framework.info.user)
    executors = framework.executors
    mine = slave.executors.get(framework.framework_id, {})
    for info in tasks:
        launchable = executors.get(info.executor_id)
        fault = _fault(framework, launchable, info)
        if fault is not None or launchable is None:
            _fail(c, framework, slave, info, fault or _UNKNOWN_EXECUTOR)
            continue
        executor = mine.get(info.executor_id)
        wanted = info.resources if executor is not None else info.resources + launchable.info.resources
        is_long = slave.is_long(info.time_limit_s, info.kill_grace_s)
        if not pool.covers(wanted) or (is_long and not _fits_long(slave, info)):
            _fail(c, framework, slave, info, _no_room(slave, pool, info, wanted))
            continue
        pool.take(wanted)
        if executor is None:
            add_executor(c, framework, slave, info.executor_id, Executor(launchable.info.resources, user))
            mine = slave.executors[framework.framework_id]
        else:
            executor.exited = False
            executor.user = user
        if slave.reported_lost or framework.called_unknown:
            _use_id_again(c, framework, slave, info.task_id)
        add_task(c, _staging(framework, slave, info, is_long, now))
        run = runs.get(info.executor_id)
        if run is None:
            runs[info.executor_id] = [info]
        else:
            run.append(info)
    for executor_id, infos in runs.items():
        _send_run_tasks(c, framework, slave, executors[executor_id], infos)
    if runs and framework.ramp_up_s is None:
        c.ramping.frameworks[framework.framework_id] = framework
    return bool(runs)


def _staging(framework: Framework, slave: Slave, info: TaskInfo, is_long: bool, now: float) -> Task:
    """The master's record of a task that is being sent to its slave."""
    return Task(
        info.task_id,
        framework,
        slave,
        info.executor_id,
        info.resources,
        is_long,
        TaskState.STAGING,
        now,
        info.time_limit_s,
        info.name[:MAX_TEXT],
        is_command=info.command is not None,
        kill_grace_s=info.kill_grace_s,
    )


def _use_id_again(c: Cluster, framework: Framework, slave: Slave, task_id: TaskID) -> None:
    """The id may be that of a task that was reported lost. From now on a status with it may be of either task, and statuses of
    the new task must reach the scheduler.
    """
    slave.reported_lost.discard((framework.framework_id, task_id))
    if framework.called_unknown:
        forget_unknown(c, framework, task_id)


def _send_run_tasks(
    c: Cluster, framework: Framework, slave: Slave, executor: LaunchableExecutor, infos: list[TaskInfo]
) -> None:
    """Send the tasks in one message, or in as few as fit into frames."""
    c.counts.tasks_launched += len(infos)
    batch: list[TaskInfo] = []
    budget = MAX_SENT_BYTES - executor.envelope_bytes
    size = 0
    for info in infos:
        task_bytes = _size(info)
        if batch and size + task_bytes > budget:
            c.send(slave.peer, m.RunTasks(framework.launch_info, executor.info, batch))
            batch, size = [], 0
        batch.append(info)
        size += task_bytes
    c.send(slave.peer, m.RunTasks(framework.launch_info, executor.info, batch))


def _size(info: TaskInfo) -> int:
    """An upper bound of a task's bytes on the wire; the exact number where a bound would be hard to compute."""
    resources = info.resources
    if (
        info.command is not None
        or info.labels
        or info.name
        or resources.ranges
        or resources.sets
        or len(resources.scalars) > _MAX_PLAIN_SCALARS
        or sum(map(len, resources.scalars)) > _MAX_PLAIN_LETTERS
    ):
        return len(msgspec.msgpack.encode(info))
    return _TASK_BYTES + len(info.data)


# -- Faults of a task ---------------------------------------------------------------------------------------------------

_UNKNOWN_EXECUTOR: Fault = (
    TaskState.ERROR,
    Reason.TASK_INVALID,
    "the framework has declared no such executor",
)


def _fault(framework: Framework, executor: LaunchableExecutor | None, info: TaskInfo) -> Fault | None:
    """The fault of the description itself."""
    text = ""
    limit_s, resources = info.time_limit_s, info.resources
    if info.task_id in framework.tasks or info.task_id in framework.unreachable:
        return (
            TaskState.ERROR,
            Reason.TASK_ID_DUPLICATE,
            "a task of this id is running already; give each task its own id",
        )
    if executor is None:
        return _UNKNOWN_EXECUTOR
    if not is_valid_id(info.task_id):
        text = "a task id has 1 to 128 letters, digits and _.:@=+-"
    elif not resources:
        text = "the task asks for no resources"
    elif limit_s is not None and not 0 < limit_s < math.inf:
        text = "a time limit is a number of seconds above zero, or None"
    elif info.kill_grace_s is not None and not 0 <= info.kill_grace_s < math.inf:
        text = "a grace period is a number of seconds, zero or more, or None"
    elif resources.ranges and sum(map(len, resources.ranges.values())) > MAX_RANGES:
        text = f"the task asks for more than {MAX_RANGES} separate ranges"
    elif not executor.info.module and executor.info.command is None:
        text = f"executor {info.executor_id} has neither a module nor a command, so there is nothing to run"
    elif executor.envelope_bytes + len(info.data) + _TASK_BYTES > MAX_SENT_BYTES or (
        executor.envelope_bytes + _size(info) > MAX_SENT_BYTES
    ):
        text = "the task with its executor does not fit into one message; put the data into a file"
    return (TaskState.ERROR, Reason.TASK_INVALID, text) if text else None


def _fits_long(slave: Slave, info: TaskInfo) -> bool:
    """Whether the slave's cap on long tasks leaves room for this one."""
    return slots.fits(slave.long_used, slave.long_cap, info.resources.quantities())


def _no_room(slave: Slave, pool: Pool, info: TaskInfo, wanted: Resources) -> Fault:
    """What is too small for a task that takes `wanted` with its executor: the offers, or the part for long tasks."""
    return _long_cap(slave, info.resources.quantities()) if pool.covers(wanted) else _exceeded(wanted, pool)


def _exceeded(wanted: Resources, pool: Pool) -> Fault:
    text = (
        f"the task (with its executor, unless that runs there already) needs {printable(str(wanted))}, "
        f"the offers hold {printable(str(pool.freeze()))}"
    )
    return TaskState.ERROR, Reason.OFFER_EXCEEDED, text


def _long_cap(slave: Slave, wanted: dict[str, int]) -> Fault:
    over = next(n for n, a in wanted.items() if slave.long_used.get(n, 0) + a > slave.long_cap.get(n, 0))
    text = (
        f"long tasks hold {slave.long_used.get(over, 0)} of the {slave.long_cap.get(over, 0)} {printable(over)} "
        f"that they may hold together on {slave.slave_id}; a time limit of at most {slave.info.short_limit_s:g} s, "
        "with the task's own grace added, makes it short"
    )
    return TaskState.LOST, Reason.LONG_TASK_CAP, text


def _fail(c: Cluster, framework: Framework, slave: Slave | None, info: TaskInfo, fault: Fault) -> None:
    """Report a task that is never launched. No record is kept: it has held nothing."""
    state, reason, text = fault
    if not is_valid_id(info.task_id) and len(info.task_id) > 128:
        # Such an id cannot be sent back: no message may hold it.
        if framework.peer is not None:
            c.drop(framework.peer, f"it sent a task id of {len(info.task_id)} characters")
        return
    framework.ended_counts[state.value] = framework.ended_counts.get(state.value, 0) + 1
    c.ended_counts[state.value] = c.ended_counts.get(state.value, 0) + 1
    status = TaskStatus(
        TaskID(info.task_id),
        state,
        reason=reason,
        source=MASTER,
        message=text,
        slave_id=slave.slave_id if slave is not None else SlaveID(""),
        executor_id=ExecutorID(info.executor_id[:128]),
    )
    c.send(framework.peer, m.StatusUpdate(framework.framework_id, status))
