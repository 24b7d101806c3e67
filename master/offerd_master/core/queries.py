"""Operators' questions about the cluster, from the command line.

Only `kill_any_task` and `end_framework` change anything. A caller that is not an operator sees, finds and ends only its own
frameworks and their tasks. Listings come in pages that fit into a frame; long entries make a page shorter.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from offerd import __version__
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import ContainerID, FrameworkID, TaskID
from offerd.messages import Reason
from offerd.protocol.change_messages import EndedTask
from offerd.resources import Resources
from offerd.values.screen_text import printable
from offerd.wire.codec import encode_message
from offerd_master.core import failover, files
from offerd_master.core.caller import Caller
from offerd_master.core.cluster import Cluster
from offerd_master.core.endings import shut_down_everywhere
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.pool import cut, cut_quantities, pool_of
from offerd_master.core.state import Framework, Slave, Task
from offerd_master.core.tasks import kill

PAGE_BYTES = 512 << 10
"""Approximate size of one page. One entry is far smaller: descriptions are bounded, texts are cut."""
MAX_PAGE = 1000
MAX_FILTERS_BYTES = 16 << 10
"""Longer filters are not shown."""

V = TypeVar("V", bound=m.Value)


def get_cluster(c: Cluster, caller: Caller, message: om.GetCluster, now: float) -> None:
    slaves = c.slaves.values()
    counts = dict(c.ended_counts)
    for framework in c.frameworks.values():
        _count_open(counts, framework)
    answer = om.Cluster(
        master_id=c.master_id,
        version=__version__,
        epoch=c.epoch,
        up_s=now - c.started_at,
        slaves=len(c.slaves),
        frameworks=sum(not framework.ended for framework in c.frameworks.values()),
        total=_sum(slave.total for slave in slaves),
        used=_sum(slave.used() for slave in slaves),
        offered=_sum(offer.resources for offer in c.offers.values()),
        tasks=counts,
        dropped_peers=c.dropped_peers,
        allocator=c.settings.allocator,
        wasted_resource_s=c.wasted_resource_s,
        refused=c.refused,
        failed_messages=c.failed_messages,
        unsent_messages=c.unsent_messages,
        withheld=_sum(cut(slave.free.freeze()) for slave in slaves if slave.is_out),
    )
    c.send(caller.peer, answer)


# -- Slaves -------------------------------------------------------------------------------------------------------------


def get_slaves(c: Cluster, caller: Caller, message: om.GetSlaves, now: float) -> None:
    everyone = {**c.lost_slaves, **c.slaves}
    who = caller.principal
    if who is not None and who.slave and not who.operator and not who.has_frameworks:
        everyone = {slave_id: slave for slave_id, slave in everyone.items() if who.owns(slave_id)}
    ids = following(everyone, message.after, message.limit)
    page, more = page_of((_slave(c, caller, everyone[slave_id], now) for slave_id in ids), message.limit)
    c.send(caller.peer, om.Slaves(page, more))


def _slave(c: Cluster, caller: Caller, slave: Slave, now: float) -> om.SlaveSummary:
    usage = slave.usage
    return om.SlaveSummary(
        info=slave.info,
        state=slave.state.value,
        used=cut(slave.used()),
        offered=_sum(offer.resources for offer in slave.offers.values()),
        free=cut(slave.free.freeze()),
        long_used=cut_quantities(slave.long_used),
        tasks=len(slave.tasks),
        executors=sum(map(len, slave.executors.values())),
        used_millicpus=usage.millicpus if usage is not None else 0,
        used_mem_bytes=usage.mem_bytes if usage is not None else 0,
        since_s=now - slave.there_since,
        disk_full=slave.is_disk_full,
        files=files.access_of_caller(caller, slave),
    )


# -- Frameworks ---------------------------------------------------------------------------------------------------------


def get_frameworks(c: Cluster, caller: Caller, message: om.GetFrameworks, now: float) -> None:
    everyone = {**c.ended_frameworks, **c.frameworks}
    if not message.ended:
        everyone = {fid: framework for fid, framework in c.frameworks.items() if not framework.ended}
    everyone = {fid: framework for fid, framework in everyone.items() if caller.sees(fid)}
    ids = following(everyone, message.after, message.limit)
    page, more = page_of((_framework(c, everyone[fid], now) for fid in ids), message.limit)
    c.send(caller.peer, om.Frameworks(page, more, caller.shown_owner))


def _framework(c: Cluster, framework: Framework, now: float) -> om.FrameworkSummary:
    info = framework.info
    framework_id = framework.framework_id
    counts = dict(framework.ended_counts)
    _count_open(counts, framework)
    used = pool_of(task.resources for task in framework.tasks.values())
    users = set()
    for slave in c.slaves.values():
        for executor in slave.executors.get(framework_id, {}).values():
            used.give(executor.resources)
            users.add(executor.user)
    guaranteed = c.entitlements.guaranteed(framework_id) if c.entitlements is not None else {}
    under_since = c.under_share_since.get(framework_id)
    open_state = "active" if framework.peer is not None else "disconnected"
    return om.FrameworkSummary(
        framework_id=framework_id,
        name=info.name[:MAX_TEXT],
        role=info.role[:MAX_TEXT],
        user=", ".join(sorted(users))[:MAX_TEXT] or info.user[:MAX_TEXT],
        state="ended" if framework.ended else open_state,
        used=cut(used.freeze()),
        offered=_sum(offer.resources for offer in framework.offers.values()),
        dominant_share=c.allocator.share(framework_id) if framework_id in c.frameworks else 0.0,
        needs_offers=framework.needs_offers,
        tasks=counts,
        wasted_resource_s=framework.wasted_resource_s,
        hostname=info.hostname[:MAX_TEXT],
        since_s=now - framework.since,
        filters=framework.filters.filters if framework.filters_bytes <= MAX_FILTERS_BYTES else m.Filters(),
        schedulers=(framework.peer is not None) + len(framework.standbys),
        guaranteed=Resources(cut_quantities(guaranteed)),
        under_share_s=now - under_since if under_since is not None else None,
        ramp_up_s=framework.ramp_up_s,
        completion_s=framework.ended_at - framework.since if framework.ended else None,
    )


def _sum(amounts: Iterable[Resources]) -> Resources:
    return cut(pool_of(amounts).freeze())


def _count_open(counts: dict[str, int], framework: Framework) -> None:
    for tasks in (framework.tasks, framework.unreachable):
        for state, number in Counter([task.state for task in tasks.values()]).items():
            counts[state.value] = counts.get(state.value, 0) + number


# -- Tasks --------------------------------------------------------------------------------------------------------------


def get_tasks(c: Cluster, caller: Caller, message: om.GetTasks, now: float) -> None:
    """The first tasks after `after`, ordered by framework, id and time (an id may be used again). Frameworks beyond those that
    fill the page are not looked at, and only the ids of a framework's tasks are sorted.
    """
    limit = max(1, min(message.limit, MAX_PAGE))
    after_framework, after_id, after_time = (*message.after.split("/", 2), "", "", "")[:3]
    found: list[_Listed] = []
    for framework in _frameworks_from(c, caller, message.framework_id, after_framework):
        is_first = framework.framework_id == after_framework
        after = (after_id, after_time) if is_first else ("", "")
        found += _tasks_after(framework, message, after, limit + 1 - len(found))
        if len(found) > limit:
            break
    page, more = page_of((_task(c, one.framework, one.task, now) for one in found), limit)
    accesses = {
        slave_id: files.access_of_caller(caller, slave)
        for slave_id in {task.slave_id for task in page}
        if (slave := c.slaves.get(slave_id)) is not None
    }
    c.send(
        caller.peer, om.Tasks(page, found[len(page) - 1].place if more else "", accesses, caller.shown_owner)
    )


class _Listed(NamedTuple):
    framework: Framework
    task: Task | EndedTask

    @property
    def order(self) -> tuple[str, str]:
        return self.task.task_id, f"{self.task.launched_at:020.6f}"

    @property
    def place(self) -> str:
        """Its place in the listing, for the answer and for the next question. No id contains a slash."""
        return "/".join((self.framework.framework_id, *self.order))


def _frameworks_from(c: Cluster, caller: Caller, wanted: str, first: str) -> Iterator[Framework]:
    """The frameworks that the caller may see, in the order of their ids, from `first` on."""
    everyone: dict[FrameworkID, Framework] = {**c.ended_frameworks, **c.frameworks}
    ids = [wanted] if wanted else sorted(everyone)
    for framework_id in ids:
        framework = everyone.get(FrameworkID(framework_id))
        if framework is not None and framework_id >= first and caller.sees(framework.framework_id):
            yield framework


def _tasks_after(
    framework: Framework, message: om.GetTasks, after: tuple[str, str], count: int
) -> list[_Listed]:
    """The first `count` tasks of this framework, in order."""
    wanted = message.task_id
    open_tasks = (framework.tasks, framework.unreachable)
    records: Iterable[EndedTask] = framework.history.records if message.ended else ()
    if wanted:
        found = [_Listed(framework, tasks[wanted]) for tasks in open_tasks if wanted in tasks]
        # The id may have been used several times: the last run counts.
        last = [] if found else [record for record in records if record.task_id == wanted][-1:]
        found += [_Listed(framework, record) for record in last]
    else:
        first = after[0]
        ids = heapq.nsmallest(
            count + 1, (task_id for tasks in open_tasks for task_id in tasks if task_id >= first)
        )
        found = [_Listed(framework, framework.tasks.get(i) or framework.unreachable[i]) for i in ids]
        found += [_Listed(framework, record) for record in records if record.task_id >= first]
    return sorted((one for one in found if one.order > after), key=lambda one: one.order)[:count]


def _task(c: Cluster, framework: Framework, task: Task | EndedTask, now: float) -> om.TaskSummary:
    is_over = isinstance(task, EndedTask)
    slave_id = task.slave_id if isinstance(task, EndedTask) else task.slave.slave_id
    slave = c.slaves.get(slave_id) or c.lost_slaves.get(slave_id)
    ended_at = task.ended_at if isinstance(task, EndedTask) else now
    return om.TaskSummary(
        task_id=task.task_id,
        framework_id=framework.framework_id,
        framework_name=framework.info.name[:MAX_TEXT],
        slave_id=slave_id,
        hostname=slave.info.hostname if slave is not None else "",
        executor_id=task.executor_id,
        state=task.state,
        name=task.name,
        resources=cut(task.resources),
        time_limit_s=task.time_limit_s,
        reason=task.reason if isinstance(task, EndedTask) else "",
        message=task.message,
        exit_status=task.exit_status if isinstance(task, EndedTask) else None,
        launched_s=now - task.launched_at,
        ran_s=0.0 if task.running_since is None else ended_at - task.running_since,
        ended_s=now - ended_at if is_over else None,
        files_address=slave.info.files_address if slave is not None else "",
        user=_user(framework, slave, task),
        sandbox=_sandbox(task.container_id, task.task_id, has_own_dir=task.is_command),
        output=task.output if isinstance(task, EndedTask) else None,
        usage=task.usage if isinstance(task, EndedTask) else None,
    )


def _user(framework: Framework, slave: Slave | None, task: Task | EndedTask) -> str:
    """The user as which it runs or ran; "" if its slave is away, or was away when it ended."""
    if isinstance(task, EndedTask):
        return task.user
    executor = slave.executor(framework.framework_id, task.executor_id) if slave is not None else None
    return executor.user if executor is not None else ""


def _sandbox(container_id: ContainerID, task_id: TaskID, *, has_own_dir: bool) -> str:
    """The path of the task's files on the slave's file server: a command's own directory, or its executor's sandbox."""
    if not container_id:
        return ""
    return f"containers/{container_id}/tasks/{task_id}" if has_own_dir else f"containers/{container_id}"


def kill_any_task(c: Cluster, caller: Caller, message: om.KillAnyTask, now: float) -> None:
    """End a task: an operator may end anybody's, others only their own."""
    wanted = message.framework_id
    found = [
        framework.tasks[message.task_id]
        for framework in c.frameworks.values()
        if message.task_id in framework.tasks
        and (not wanted or framework.framework_id == wanted)
        and caller.sees(framework.framework_id)
    ]
    name = printable(message.task_id)
    if not found:
        c.send(caller.peer, om.Done(False, f"no task {name} is running; `offerd tasks` lists them"))
    elif len(found) > 1:
        owners = ", ".join(task.framework.framework_id for task in found[:10])
        c.send(caller.peer, om.Done(False, f"several frameworks have a task {name}; choose one of {owners}"))
    else:
        kill(c, found[0], c.settings.operator_grace_s)
        c.send(caller.peer, om.Done(True))


def end_framework(c: Cluster, caller: Caller, message: om.EndFramework, now: float) -> None:
    """End a whole framework, with or without a scheduler. If it has ended already but still holds something, its slaves get the
    order again.
    """
    found = c.named(caller, message.framework)
    name = printable(message.framework)
    if not found:
        c.send(
            caller.peer, om.Done(False, f"no framework {name} is registered; `offerd frameworks` lists them")
        )
    elif len(found) > 1:
        ids = ", ".join(framework.framework_id for framework in found[:10])
        c.send(caller.peer, om.Done(False, f"several frameworks are called {name}; choose one of {ids}"))
    elif found[0].ended:
        shut_down_everywhere(c, found[0])
        c.send(caller.peer, om.Done(True))
    else:
        framework, why = found[0], "somebody has ended it by hand, as `offerd kill --framework` does"
        by = f" by {caller.name}" if caller.name else ""
        c.log(f"framework {framework.framework_id} ({framework.info.name}) is ended{by}, by hand", "warning")
        active = framework.peer
        failover.end(c, framework, now, Reason.FRAMEWORK_REMOVED, why)
        c.send(active, m.FrameworkRefused(*framework.ended_because))
        c.send(caller.peer, om.Done(True))


# -- Pages --------------------------------------------------------------------------------------------------------------

Key = TypeVar("Key", bound=str)


def following(keys: Iterable[Key], after: str, limit: int) -> Sequence[Key]:
    """The first keys after `after`, in order: one more than a page holds."""
    return heapq.nsmallest(max(1, min(limit, MAX_PAGE)) + 1, (key for key in keys if key > after))


def page_of(values: Iterable[V], limit: int) -> tuple[list[V], bool]:
    """As many values as the limit and a frame allow, but at least one if there is one; and whether more follow."""
    page: list[V] = []
    size = 0
    for value in values:
        size += len(encode_message(value))
        if page and (len(page) >= max(1, min(limit, MAX_PAGE)) or size > PAGE_BYTES):
            return page, True
        page.append(value)
    return page, False
