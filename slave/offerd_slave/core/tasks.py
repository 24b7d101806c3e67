"""Check, deliver and kill tasks, and enforce their time limits."""

from __future__ import annotations

from offerd.ids import ContainerID, FrameworkID, TaskID, is_valid_id
from offerd.messages import ExecutorInfo, FrameworkInfo, KillTask, LaunchTask, Reason, TaskInfo, TaskState
from offerd_slave.core.actions import (
    Append,
    DestroyContainer,
    FindUnkillable,
    KeepTasks,
    KillTaskProcesses,
    PrepareTask,
    UpdateContainer,
)
from offerd_slave.core.state import Container, End, Killing, Phase, State, Task
from offerd_slave.core.statuses import Statuses
from offerd_slave.records import TaskDelivered


class Tasks:
    """The life of tasks between `RunTasks` and their terminal status."""

    def __init__(self, state: State, statuses: Statuses) -> None:
        self._state = state
        self._statuses = statuses

    def refusal(self, framework: FrameworkInfo, executor: ExecutorInfo, task: TaskInfo) -> End | None:
        """Why this slave will not run the task, or None. The master has checked it, too, but its view may be stale. The cap on
        long tasks holds here at every instant.
        """
        state = self._state
        if state.is_closed:
            return End(TaskState.LOST, Reason.SLAVE_DRAINING, "the slave is drained")
        if state.is_disk_full:
            return End(TaskState.LOST, Reason.DISK_PRESSURE, "the slave's disk is full")
        if self._statuses.backlog.is_over(framework.framework_id):
            return End(
                TaskState.LOST,
                Reason.OFFER_EXCEEDED,
                "its framework has to acknowledge the statuses that wait on this slave before it is given more tasks there",
            )
        if (framework.framework_id, task.task_id) in state.tasks:
            return End(
                TaskState.ERROR, Reason.TASK_ID_DUPLICATE, f"a task {task.task_id} runs on this slave already"
            )
        if not is_valid_id(task.task_id) or not is_valid_id(task.executor_id):
            return End(
                TaskState.ERROR,
                Reason.TASK_INVALID,
                "a task's or executor's id has characters it may not have",
            )
        if not state.has(executor.resources):
            return End(
                TaskState.ERROR,
                Reason.TASK_INVALID,
                "its executor needs more than the whole slave has",
            )
        known = state.by_executor.get((framework.framework_id, task.executor_id))
        if known is None and len(state.containers) >= state.settings.max_containers:
            return End(
                TaskState.LOST,
                Reason.OFFER_EXCEEDED,
                f"this slave has {len(state.containers)} executors already, for more it has too few file descriptors",
            )
        if not state.fits(task.resources):
            return End(
                TaskState.LOST, Reason.OFFER_EXCEEDED, f"{task.resources} is not free on this slave any more"
            )
        if not state.can_list(framework, task):
            return End(
                TaskState.LOST,
                Reason.OFFER_EXCEEDED,
                f"this slave has {len(state.tasks)} tasks already: more could not be named to a new master; "
                "run fewer at once, or with shorter names",
            )
        if not state.can_queue(framework.framework_id, task):
            return End(
                TaskState.LOST,
                Reason.OFFER_EXCEEDED,
                "too much data of tasks waits on this slave for its executor to start; send less at once, or put it into files",
            )
        if state.is_long(task) and not state.long_fits(task.resources):
            return End(
                TaskState.LOST,
                Reason.LONG_TASK_CAP,
                f"long tasks may hold {state.settings.long_fraction:.0%} of this slave together, "
                f"and with {task.resources} more they would hold more",
            )
        return None

    def add(self, container: Container, info: TaskInfo) -> Task:
        """Add a task to the container's queue."""
        task = Task(container.framework_id, container.container_id, info, self._state.is_long(info))
        self._state.enqueue(container, task)
        self._state.add_task(task)
        return task

    def deliver_queue(self, container: Container, now: float) -> None:
        """Send all waiting tasks to the executor. Their time limits begin here."""
        state, out = self._state, self._state.out
        limits_tasks = state.settings.limits_tasks and container.places_tasks
        if container.queue and state.settings.limits_containers:
            out.append(UpdateContainer(container.container_id, state.limits(container)))
            state.lowered.discard(container.container_id)
        queue, container.queue = container.queue, {}
        state.counts.tasks_delivered += len(queue)
        container.tasks.update(queue)
        for task in queue.values():
            info = task.info
            state.dequeue(task)
            # Fields that only the executor needs are dropped, so that neither memory nor journal keeps megabytes of data.
            task.info = TaskInfo(
                info.task_id,
                info.resources,
                info.executor_id,
                None,
                b"",
                info.time_limit_s,
                info.kill_grace_s,
                info.name,
                own_labels(info.labels) if info.labels else {},
            )
            task.delivered_s = now
            out.append(Append(TaskDelivered(task.framework_id, container.container_id, task.info, now)))
            if limits_tasks:
                limits = state.task_limits(info.resources)
                out.append(PrepareTask(container.container_id, info.task_id, limits, task.info.labels))
            state.to_executor(container.container_id, LaunchTask(info))
            if info.time_limit_s is not None:
                state.timers.set(("limit", task.framework_id, info.task_id), now + info.time_limit_s)

    def limit_again(self, container: Container) -> None:
        """Set the limits again after a restart of the slave or a new connection of the executor, and remove those of ended
        tasks."""
        state = self._state
        if state.settings.limits_containers:
            state.do(UpdateContainer(container.container_id, state.limits(container)))
        if state.settings.limits_tasks and container.places_tasks:
            # Without tasks that have just ended: their cgroups may be gone already, and would be made again and stay.
            running = [task.info for task in container.tasks.values() if task.ending is None]
            state.do(KeepTasks(container.container_id, [info.task_id for info in running]))
            for info in running:
                limits = state.task_limits(info.resources)
                state.do(PrepareTask(container.container_id, info.task_id, limits, info.labels))

    # -- killing ------------------------------------------------------------------------------------------------------

    def kill(self, task: Task, killing: Killing, now: float, grace_s: float | None = None) -> None:
        """Have the executor end the task (TERM, grace, KILL); if it does not, the isolation module will. A task that still
        waits just ends. If it is being killed already, its time can only be shortened, by a second message.
        """
        state = self._state
        info = task.info
        own_s = info.kill_grace_s if info.kill_grace_s is not None else state.settings.kill_grace_s
        grace_s = state.grace_s(grace_s, own_s)
        if task.ending is not None or (task.killing is not None and not self._hurries(task, grace_s, now)):
            return
        task.killing = task.killing or killing
        container = state.containers[task.container_id]
        if info.task_id in container.queue:
            self._statuses.end_task(task, End(killing.state, killing.reason, killing.message), now)
            return
        state.timers.set(
            ("escalate", task.framework_id, info.task_id), now + grace_s + state.settings.kill_margin_s
        )
        if container.phase is Phase.REGISTERED:
            state.to_executor(
                container.container_id, KillTask(task.framework_id, info.task_id, state.slave_id, grace_s)
            )

    def _hurries(self, task: Task, grace_s: float, now: float) -> bool:
        """Whether a task that is being killed would now have to end earlier."""
        due = self._state.timers.when(("escalate", task.framework_id, task.info.task_id))
        return due is not None and now + grace_s + self._state.settings.kill_margin_s < due

    def repeat_kills(self, container: Container, now: float) -> None:
        """Its executor has registered again: send it the kills that it may have missed, with the rest of their grace."""
        state = self._state
        for task in container.tasks.values():
            if task.killing is not None:
                due = state.timers.when(("escalate", task.framework_id, task.info.task_id))
                left_s = 0.0 if due is None else due - state.settings.kill_margin_s - now
                grace_s = state.grace_s(left_s, 0.0)
                state.to_executor(
                    container.container_id,
                    KillTask(task.framework_id, task.info.task_id, state.slave_id, grace_s),
                )

    def kill_by_id(self, message: KillTask, now: float) -> bool:
        """Kill a task for its framework or the master. False if there is no such task."""
        task = self._state.tasks.get((message.framework_id, message.task_id))
        if task is None:
            return False
        if message.reason == Reason.REVOKED:
            killing = Killing(Reason.REVOKED, "killed: its framework held more than is guaranteed to it")
        else:
            killing = Killing(Reason.KILLED_BY_FRAMEWORK, "killed by its framework")
        self.kill(task, killing, now, message.grace_s)
        return True

    def limit_reached(self, framework_id: FrameworkID, task_id: TaskID, now: float) -> None:
        """The task has reached its time limit: kill it."""
        task = self._state.tasks.get((framework_id, task_id))
        if task is not None:
            limit_s = task.info.time_limit_s
            killing = Killing(
                Reason.TASK_TIMEOUT,
                f"killed after its time limit of {limit_s:g} s",
                f"time_limit_s={limit_s:g}",
            )
            self.kill(task, killing, now)

    def escalate(self, framework_id: FrameworkID, task_id: TaskID, now: float) -> None:
        """The executor has not ended the task in time: have the isolation module kill it. If its end is not reported even
        then, `find_unkillable` follows.
        """
        state = self._state
        task = state.tasks.get((framework_id, task_id))
        if task is None or task.killing is None:
            return
        container = state.containers[task.container_id]
        if container.phase is Phase.ENDING:
            return
        state.log("WARNING", f"task {task_id}: its executor has not ended it in time; killing its processes")
        state.do(KillTaskProcesses(container.container_id, task_id))
        state.timers.set(("find_unkillable", framework_id, task_id), now + 2 * state.settings.kill_margin_s)

    def find_unkillable(self, framework_id: FrameworkID, task_id: TaskID, now: float) -> None:
        """Its processes were killed, and its executor still does not report its end: find processes that do not die."""
        state = self._state
        task = state.tasks.get((framework_id, task_id))
        if task is not None:
            if state.settings.limits_tasks and state.containers[task.container_id].places_tasks:
                state.do(FindUnkillable(task.container_id, task_id))
            else:
                self.end_container_of(framework_id, task_id, now)

    def unkillable_found(
        self, container_id: ContainerID, task_id: TaskID, unkillable: str, now: float
    ) -> None:
        """Unkillable processes are not the executor's fault: it goes on, and they are looked for again. If nothing is left of
        the task, its executor has some time to report its end, and is ended after that."""
        container = self._state.containers.get(container_id)
        task = container.tasks.get(task_id) if container is not None else None
        if task is None:
            return
        if unkillable:
            self.unkillable(task, unkillable)
            task.is_gone = False
            when = now + self._state.settings.unkillable_look_s
            self._state.timers.set(("find_unkillable", task.framework_id, task_id), when)
        elif not task.is_gone:
            # The executor may have a thousand processes to reap.
            task.is_gone = True
            when = now + self._state.settings.executor_report_s
            self._state.timers.set(("find_unkillable", task.framework_id, task_id), when)
        else:
            self.end_container_of(task.framework_id, task_id, now)

    def unkillable(self, task: Task, who: str) -> None:
        """Report once that the task is unkillable. Its resources stay taken, and the slave goes on."""
        if task.is_unkillable:
            return
        task.is_unkillable = True
        text = f"killed, but the kernel does not let go of {who}"
        self._state.log("ERROR", f"task {task.info.task_id}: {text}")
        self._statuses.report(task, TaskState.RUNNING, Reason.UNKILLABLE, text)

    def end_container_of(self, framework_id: FrameworkID, task_id: TaskID, now: float) -> None:
        """End the whole container of a task that neither its executor nor the module could end alone."""
        task = self._state.tasks.get((framework_id, task_id))
        if task is None:
            return
        container = self._state.containers[task.container_id]
        if container.phase is not Phase.ENDING:
            self._state.log("WARNING", f"task {task_id} cannot be killed alone; ending its executor")
            container.phase = Phase.ENDING
            container.end = End(
                TaskState.FAILED,
                Reason.EXECUTOR_EXITED,
                f"the executor was killed because it did not end task {task_id}",
            )
            self._state.do(DestroyContainer(container.container_id))


def own_labels(labels: dict[str, str]) -> dict[str, str]:
    """The labels that mean something to a slave; the journal keeps no others."""
    return {name: value for name, value in labels.items() if name.startswith("offerd.")}
