"""Launch, register, end and destroy containers. A container is one run of one executor."""

from __future__ import annotations

import signal

from offerd.ids import ContainerID, TaskID, is_valid_id
from offerd.messages import (
    ExecutorExited,
    ExecutorInfo,
    ExecutorRegistered,
    FrameworkInfo,
    KillTask,
    Reason,
    RegisterExecutor,
    Shutdown,
    TaskState,
)
from offerd.values.screen_text import printable
from offerd_isolation.base import Limitation
from offerd_linux.exits import exit_words
from offerd_slave.core.actions import (
    DestroyContainer,
    ForgetContainer,
    HearExecutor,
    InspectFailure,
    LaunchContainer,
)
from offerd_slave.core.state import Container, End, Killing, Phase, State
from offerd_slave.core.statuses import Statuses
from offerd_slave.core.tasks import Tasks
from offerd_slave.records import ExitRecord

OTHER_USER = End(TaskState.KILLED, Reason.USER_CHANGED, "its framework runs as another user now")
MOST_UNKNOWN_TASKS = 12_000
"""How many tasks of one executor that the slave has no record of are reported: more than a slave ever delivers."""


class Containers:
    """The life of containers. If a task ends with its container, its terminal status is not sent before the container is
    gone."""

    def __init__(self, state: State, statuses: Statuses, tasks: Tasks) -> None:
        self._state = state
        self._statuses = statuses
        self._tasks = tasks
        self._making: set[ContainerID] = set()  # being made: their executors' time to register has not begun

    def obtain(self, framework: FrameworkInfo, executor: ExecutorInfo, now: float) -> Container:
        """The container that runs this executor of this framework as this user; a new one if there is none, or it is ending.
        A container that runs as another user is ended.

        The caller has a new one launched by `launch`, when its first tasks are in its queue and its limits are known.
        """
        state = self._state
        container = state.by_executor.get((framework.framework_id, executor.executor_id))
        if container is not None and container.user != framework.user:
            self.shut_down(container, OTHER_USER, now)
        if container is None or container.phase is Phase.ENDING:
            container = Container(state.new_container_id(), framework, executor)
            state.add_container(container)
        return container

    def launch(self, container: Container, now: float) -> None:
        """Have the daemon launch it, and wait for its executor's registration."""
        container.launched = True
        state = self._state
        state.counts.launches += 1
        state.do(
            LaunchContainer(
                container.container_id, container.framework, container.executor, state.limits(container)
            )
        )
        self._await_registration(container, now)

    def _await_registration(self, container: Container, now: float) -> None:
        timeout_s = self._state.settings.executor_registration_timeout_s
        self._state.timers.set(("executor_registration", container.container_id), now + timeout_s)

    def preparing(self, container_id: ContainerID, message: str | None, now: float) -> None:
        """Its executor's time to register begins when the container is made, as it may have to wait for others, or for an
        image. The progress is reported for only one of the waiting tasks: there may be thousands, and a report each second."""
        container = self._state.containers.get(container_id)
        if container is None or container.phase is not Phase.LAUNCHING:
            return
        if message is None:
            self._making.add(container_id)
            self._state.timers.cancel(("executor_registration", container_id))
            return
        if not message:
            self._making.discard(container_id)
        if container_id not in self._making:
            self._await_registration(container, now)
        if not message:
            return
        if task := next(iter(container.queue.values()), None):
            self._statuses.report(task, TaskState.STAGING, Reason.CONTAINER_PREPARING, message)

    def launch_failed(self, container_id: ContainerID, message: str) -> None:
        """No process was started: end the container and clean up what was prepared."""
        container = self._state.containers.get(container_id)
        if container is not None:
            self._state.counts.launches_failed += 1
            self._end(container, End(TaskState.FAILED, Reason.EXECUTOR_NOT_LAUNCHED, message))

    def registration_timed_out(self, container_id: ContainerID) -> None:
        """Its executor was started and has not registered in time."""
        container = self._state.containers.get(container_id)
        if container is not None and container.phase is Phase.LAUNCHING:
            message = "the executor did not register in time; its stderr may say why"
            self._end(container, End(TaskState.FAILED, Reason.EXECUTOR_REGISTRATION_TIMEOUT, message))

    # -- messages of the executor -------------------------------------------------------------------------------------

    def register(self, container: Container, registration: RegisterExecutor, now: float) -> None:
        """Its executor has started, or has connected again. The answer confirms the statuses in its registration."""
        state = self._state
        if container.phase is Phase.ENDING:
            state.to_executor(container.container_id, Shutdown(0.0))
            return
        state.timers.cancel(("executor_registration", container.container_id))
        container.places_tasks = registration.places_tasks
        container.heard = 0
        if self._statuses.backlog.is_over(container.framework_id):
            # Its statuses come again, as updates, when it is read again.
            state.do(HearExecutor(container.container_id, False))
        else:
            for status in registration.unacknowledged:
                self._statuses.take(container, status, now)
        self._settle(container, registration, now)
        container.phase = Phase.REGISTERED
        if container.tasks:
            self._tasks.limit_again(container)
        state.to_executor(
            container.container_id,
            ExecutorRegistered(
                container.framework, container.executor, state.slave_id, state.info.hostname, ""
            ),
        )
        self._tasks.repeat_kills(container, now)
        self._tasks.deliver_queue(container, now)

    def _settle(self, container: Container, registration: RegisterExecutor, now: float) -> None:
        """After a restart of the slave: a task that was delivered and that the executor does not have is lost; a task that it
        has and the slave does not know is ended."""
        ended = {status.task_id for status in registration.unacknowledged if status.state.terminal}
        theirs = dict.fromkeys(registration.task_ids)
        # A task whose end the executor has reported is not in `task_ids` any more. It is no lost task.
        for task in [
            task
            for task_id, task in container.tasks.items()
            if task_id not in theirs and not (task.ending is not None and task_id in ended)
        ]:
            message = "the slave was restarted before its executor had the task"
            self._statuses.end_task(task, End(TaskState.LOST, Reason.SLAVE_RESTARTED, message), now)
        unknown = [each for each in theirs if each not in container.tasks and each not in ended]
        for task_id in unknown[:MOST_UNKNOWN_TASKS]:
            self._state.to_executor(
                container.container_id,
                KillTask(container.framework_id, task_id, self._state.slave_id, 0.0),
            )
        # The slave may have reported the end of one already, and the executor has missed the message that ends it.
        unrecorded = [each for each in unknown if not self._statuses.has_ended(container.framework_id, each)]
        if unrecorded:
            self._report_unknown(container, unrecorded, now)

    def _report_unknown(self, container: Container, task_ids: list[TaskID], now: float) -> None:
        """Log tasks that only their executor knows. If the journal was damaged, they are also reported as lost; otherwise the
        slave has never delivered them, and no scheduler waits for them."""
        self._state.log(
            "WARNING",
            f"the executor of {container.container_id} has {len(task_ids)} tasks that this slave has no record of, as "
            f"{printable(task_ids[0], 40)}; ending them",
        )
        if not self._state.is_journal_damaged or not container.is_adopted:
            return
        end = End(TaskState.LOST, Reason.CHECKPOINT_DAMAGED, "the slave's record of the task was damaged")
        for task_id in task_ids[: max(0, MOST_UNKNOWN_TASKS - container.unknown_tasks)]:
            if is_valid_id(task_id):
                self._statuses.refuse(
                    container.framework_id, task_id, container.executor.executor_id, end, now
                )
        container.unknown_tasks += len(task_ids)

    def faulty(self, container_id: ContainerID, fault: str) -> None:
        """Its executor has made an impossible claim, so that none of its messages can be believed: end it."""
        container = self._state.containers.get(container_id)
        if container is None:
            return
        if container.phase is not Phase.ENDING or container.end is None:
            self._state.log("WARNING", f"ending the executor of {container_id}: it {printable(fault)}")
        message = f"its executor was ended: it {printable(fault)}"
        self._end(container, End(TaskState.FAILED, Reason.EXECUTOR_INVALID, message))

    # -- the end ------------------------------------------------------------------------------------------------------

    def executor_ended(self, container_id: ContainerID, exit_record: ExitRecord | None) -> None:
        """The executor's process is gone. What it left behind is killed before its end is reported. If it was killed, the
        module is asked first whether that was for a limit.
        """
        container = self._state.containers.get(container_id)
        if container is None:
            return
        was_killed = exit_record is None or exit_record.exit_status == -signal.SIGKILL
        if exit_record is None:
            end = End(TaskState.FAILED, Reason.SHIM_DIED, "the executor's shim was killed")
        else:
            how = exit_record.message or f"the executor {exit_words(exit_record.exit_status)}"
            reason = Reason.EXECUTOR_NOT_LAUNCHED if exit_record.message else Reason.EXECUTOR_EXITED
            end = End(TaskState.FAILED, reason, how, exit_record.exit_status)
        if container.hit is not None and was_killed:
            end = End.by_limit(container.hit, end.exit_status)
        if was_killed and self._state.settings.limits_containers:
            container.killed = end
            self._begin_end(container)
            self._state.do(InspectFailure(container_id, TaskID(""), -signal.SIGKILL))
        else:
            self._end(container, end)

    def failure_inspected(self, container: Container, hit: Limitation | None) -> None:
        """The module has reported which limit a killed executor had hit, if any."""
        if container.killed is None:
            return
        end, container.killed = container.killed, None
        if hit is not None and hit.fatal:
            container.end = End.by_limit(hit)
        elif hit is not None:
            self._state.log("WARNING", f"container {container.container_id}: {hit.message}")
            end = End.by_limit(hit, end.exit_status)
        self._end(container, end)

    def shut_down(self, container: Container, end: End, now: float, grace_s: float | None = None) -> None:
        """End it gracefully: send Shutdown, wait for the grace (the executor's own, if None), then kill. If it is ending
        already, the time can only be shortened."""
        state = self._state
        grace_s = state.grace_s(grace_s, container.executor.shutdown_grace_s)
        when = now + grace_s + state.settings.kill_margin_s
        if container.phase is Phase.ENDING:
            due = state.timers.when(("shutdown", container.container_id))
            if due is not None and when < due:
                state.to_executor(container.container_id, Shutdown(grace_s))
                state.timers.set(("shutdown", container.container_id), when)
        elif container.phase is Phase.REGISTERED:
            container.phase = Phase.ENDING
            container.end = end
            # The executor will report that they were killed, but only the slave knows why.
            for task in container.tasks.values():
                task.killing = task.killing or Killing(end.reason, end.message)
            state.to_executor(container.container_id, Shutdown(grace_s))
            state.timers.set(("shutdown", container.container_id), when)
        else:
            self._end(container, end)

    def unkillable(self, container_id: ContainerID, who: str) -> None:
        """Processes of it were killed long ago and still exist. Its resources stay taken."""
        container = self._state.containers.get(container_id)
        if container is None:
            return
        self._state.log("ERROR", f"container {container_id}: killed, but the kernel does not let go of {who}")
        for task in list(container.tasks.values()):
            self._tasks.unkillable(task, who)

    def over_limit(self, hit: Limitation) -> None:
        """The container as a whole is over a limit: end it with its tasks."""
        container = self._state.containers.get(hit.container_id)
        if container is not None and container.phase is not Phase.ENDING:
            self._state.log("WARNING", f"container {hit.container_id}: {hit.message}; ending it")
            self._end(container, End.by_limit(hit))

    def shutdown_timed_out(self, container_id: ContainerID) -> None:
        """It did not end by itself within its grace: kill it."""
        if container_id in self._state.containers:
            self._state.do(DestroyContainer(container_id))

    def _end(self, container: Container, end: End) -> None:
        container.end = container.end or end
        self._begin_end(container)
        self._state.do(DestroyContainer(container.container_id))

    def _begin_end(self, container: Container) -> None:
        container.phase = Phase.ENDING
        self._making.discard(container.container_id)
        self._state.timers.cancel(("executor_registration", container.container_id))
        self._state.timers.cancel(("shutdown", container.container_id))

    def destroyed(self, container_id: ContainerID, now: float) -> None:
        """Nothing of it is left: report its tasks' ends, and free its resources."""
        state = self._state
        container = state.containers.get(container_id)
        if container is None:
            return
        end = (
            container.end
            or container.killed
            or End(TaskState.LOST, Reason.EXECUTOR_EXITED, "the executor was ended")
        )
        for task in (*container.queue.values(), *container.tasks.values()):
            self._statuses.end_task(task, end, now)
        state.remove_container(container)
        state.timers.cancel(("shutdown", container_id))
        if state.registered:
            state.to_master(
                ExecutorExited(
                    container.framework_id,
                    container.executor.executor_id,
                    container_id,
                    end.exit_status,
                    end.message,
                )
            )
        state.do(ForgetContainer(container_id))
