"""The command executor: a program for each task, many at once, each with a directory and a process tree of
its own.

A task's command runs in `SANDBOX/tasks/TASK_ID/`, which is removed at its end if nothing lies in it; what it
prints is in `stdout` and `stderr` there. It finds `OFFERD_TASK_ID` and `OFFERD_TASK_SANDBOX` in its
environment, and the Python that offerd runs on as `OFFERD_PYTHON`. It is over when its first process and
everything that this left behind have ended.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import OrderedDict, deque

from offerd.errors import BadInput
from offerd.executor import Executor, ExecutorDriver
from offerd.ids import TaskID, is_valid_id
from offerd.messages import Reason, TaskInfo, TaskState, TaskUsage
from offerd_executors.output import DEFAULT_LOG_BYTES, INLINE_LABEL, Held, Output
from offerd_executors.spawn import SECRETS, spawn
from offerd_executors.task_dirs import TaskDirs
from offerd_executors.trees import Forest, Tree, describe_exit

SPAWNS_PER_TURN = 8
"""A spawn stops the loop for some 0.3 ms; between these the ends of others are reported and pipes emptied."""
HOLD_RUNNING_S = 0.01
"""While tasks come faster than this, RUNNING waits as long: it is not sent for a task that is over by then."""
WATCH_AFTER_S = 0.01
"""How long a command's output may wait in its pipes at first."""
LONGEST_HOLD_RUNNING_S = 0.05
"""The same in a stream of short tasks that fill all cpus: each takes longer then than it would alone."""
LONGEST_HOLD_S = 0.008
FEW_TASKS = 8
BUSY_TASKS_PER_S = 150.0
RATE_WINDOW_S = 0.1
"""Statuses of a busy executor are collected: see `_hold_updates_s`."""
READS_AT_END = 32
"""What a full pipe holds, and more: somebody who goes on writing is not read for ever."""
DESCRIPTORS = 16384
"""Open files wanted: three for each task that prints."""


class _Running:
    """A task whose command has been started."""

    __slots__ = ("directory", "held", "is_killed", "stderr", "stdout", "task_id", "tree")

    def __init__(
        self, task_id: TaskID, directory: str, stdout: Output, stderr: Output, held: Held | None, tree: Tree
    ) -> None:
        self.task_id = task_id
        self.directory = directory
        self.stdout = stdout
        self.stderr = stderr
        self.held = held
        self.tree = tree
        self.is_killed = False


class CommandExecutor(Executor):
    """Runs each task's `CommandInfo`."""

    def __init__(self) -> None:
        """Raises `BadInput` on an environment that cannot be used."""
        self.driver = ExecutorDriver(self)
        self._tasks_dir = os.path.join(self.driver.sandbox, "tasks")
        self._dirs = TaskDirs(self.driver, self._tasks_dir)
        self._last_start = 0.0
        self._ended = self._ended_before = 0
        self._ends_per_s = 0.0
        self._rated_at = time.monotonic()
        self._log_bytes = _log_bytes()
        self._environ = {name: value for name, value in os.environ.items() if name not in SECRETS}
        self._environ["OFFERD_PYTHON"] = sys.executable
        self._waiting: OrderedDict[TaskID, TaskInfo] = OrderedDict()
        self._running: dict[TaskID, _Running] = {}
        self._unwatched: deque[tuple[float, _Running]] = deque()
        self._is_starting = False
        self._is_shutting_down = False
        self._forest = Forest(self.driver, "OFFERD_TASK_ID", self._on_gone)

    def run(self) -> int:
        """Serve until the slave says to stop. Returns the exit status."""
        os.makedirs(self._tasks_dir, mode=0o700, exist_ok=True)
        _raise_descriptor_limit()
        self._forest.start()
        exit_status = self.driver.run()
        self._dirs.close()
        return exit_status

    def launch_task(self, driver: ExecutorDriver, task: TaskInfo) -> None:
        """Queue it; a few are started in each turn of the loop."""
        self._waiting[task.task_id] = task
        self._start_soon()

    def kill_task(self, driver: ExecutorDriver, task_id: TaskID, grace_s: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace."""
        running = self._running.get(task_id)
        if running is not None:
            running.is_killed = True
            self._forest.terminate(running.tree, grace_s)
        elif self._waiting.pop(task_id, None) is not None:
            driver.send_status(task_id, TaskState.KILLED, message="killed before it was started")

    def shutdown(self, driver: ExecutorDriver, grace_s: float) -> None:
        """The same for every task; the executor ends with the last."""
        self._is_shutting_down = True
        for task_id in [*self._waiting, *self._running]:
            self.kill_task(driver, task_id, grace_s)
        self._stop_if_done()

    # -- Starting
    # -----------------------------------------------------------------------------------------------

    def _start_soon(self) -> None:
        if not self._is_starting:
            self._is_starting = True
            self.driver.call_soon(self._start_some)

    def _start_some(self) -> None:
        self._is_starting = False
        for _ in range(min(SPAWNS_PER_TURN, len(self._waiting))):
            self._start(self._waiting.popitem(last=False)[1])
        if self._waiting:
            self._start_soon()
        now = time.monotonic()
        is_busy = bool(self._waiting) or now - self._last_start < HOLD_RUNNING_S
        self.driver.hold_updates_s = hold_s = self._hold_updates_s(now)
        self.driver.hold_running_s = LONGEST_HOLD_RUNNING_S if hold_s else HOLD_RUNNING_S if is_busy else 0.0
        self._last_start = now

    def _hold_updates_s(self, now: float) -> float:
        """How long ends are collected: until half of what we have is likely to have ended. What leaves here together stays
        together all the way to the scheduler and back, as tasks for the resources that became free.
        """
        elapsed_s = now - self._rated_at
        if elapsed_s >= RATE_WINDOW_S:
            self._ends_per_s = (self._ended - self._ended_before) / elapsed_s
            self._rated_at, self._ended_before = now, self._ended
        outstanding = len(self._running) + len(self._waiting)
        if outstanding < FEW_TASKS or self._ends_per_s < BUSY_TASKS_PER_S:
            return 0.0
        return min(LONGEST_HOLD_S, outstanding / (2 * self._ends_per_s))

    def _start(self, task: TaskInfo) -> None:
        command = task.command
        if command is None or not (command.argv or command.shell) or not is_valid_id(task.task_id):
            self._not_started(task.task_id, "a task that has no command")
            return
        argv = command.argv or ["/bin/sh", "-c", command.shell]
        directory = f"{self._tasks_dir}/{task.task_id}"
        environ = {
            **self._environ,
            **command.environment,
            "OFFERD_TASK_ID": task.task_id,
            "OFFERD_TASK_SANDBOX": directory,
        }
        outputs: list[Output] = []
        held = Held() if task.labels.get(INLINE_LABEL) == "1" else None
        try:
            self._dirs.make(task.task_id)
            outputs.append(Output(f"{directory}/stdout", self._log_bytes, held))
            outputs.append(Output(f"{directory}/stderr", self._log_bytes, held))
            pid = spawn(argv, environ, directory, outputs[0].write_fd, outputs[1].write_fd)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            for output in outputs:
                output.close()
            self._dirs.release(directory)
            self._not_started(task.task_id, _why(error, argv[0]))
            return
        tree = self._forest.add(task.task_id, pid, task.task_id)
        for output in outputs:
            output.close_write_fd()
        running = _Running(task.task_id, directory, outputs[0], outputs[1], held, tree)
        self._running[task.task_id] = running
        self._watch_later(running)
        self.driver.send_status(task.task_id, TaskState.RUNNING)

    def _not_started(self, task_id: TaskID, why: str) -> None:
        self.driver.send_status(
            task_id, TaskState.FAILED, reason=Reason.COMMAND_NOT_STARTED, message=f"cannot start {why}"
        )

    # -- Output
    # -------------------------------------------------------------------------------------------------

    def _watch_later(self, running: _Running) -> None:
        """Most short commands are over before it is worth watching their pipes: what they wrote is read at their end."""
        self._unwatched.append((time.monotonic() + WATCH_AFTER_S, running))
        if len(self._unwatched) == 1:
            self.driver.call_later(WATCH_AFTER_S, self._watch_due)

    def _watch_due(self) -> None:
        now = time.monotonic()
        while self._unwatched:
            due, running = self._unwatched[0]
            if due > now:
                self.driver.call_later(due - now, self._watch_due)
                return
            self._unwatched.popleft()
            for output in (running.stdout, running.stderr):
                if output.is_open:
                    self._watch(output)

    def _watch(self, output: Output) -> None:
        output.is_watched = True
        self.driver.add_reader(output.read_fd, lambda: self._on_output(output))

    def _on_output(self, output: Output) -> None:
        # Nothing read from a pipe that epoll calls ready is its end; one read a turn is fair to the others.
        if not output.read():
            self._close(output)

    def _close(self, output: Output) -> None:
        if output.is_open:
            if output.is_watched:
                self.driver.remove_reader(output.read_fd)
            output.close()

    # -- Ends
    # ---------------------------------------------------------------------------------------------------

    def _on_gone(self, tree: Tree) -> None:
        running = self._running.pop(TaskID(str(tree.key)))
        self._ended += 1
        for output in (running.stdout, running.stderr):
            # Whoever else holds the other end does not hold up the task: we stop at empty, not at the end.
            for _ in range(READS_AT_END):
                if not output.is_open or not output.read():
                    break
            self._close(output)
        self._dirs.release(running.directory)
        assert tree.wait_status is not None
        exit_status, text = describe_exit(tree.wait_status)
        reason = ""
        if running.is_killed:
            state = TaskState.KILLED
        elif exit_status == 0:
            state, text = TaskState.FINISHED, ""
        else:
            state, reason = TaskState.FAILED, Reason.COMMAND_EXITED
        lost = running.stdout.error or running.stderr.error
        if lost:
            text = f"{text}; output lost: {lost}".lstrip("; ")
        self.driver.send_status(
            running.task_id,
            state,
            data=running.held.packed() if running.held is not None else b"",
            reason=reason,
            message=text,
            exit_status=exit_status,
            usage=TaskUsage(tree.usage.cpu_s, tree.usage.peak_mem_bytes),
        )
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self._is_shutting_down and not self._running and not self._waiting:
            self.driver.stop()


def _why(error: OSError | ValueError, program: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or program}: {error.strerror}"
    return f"{program}: {error}"


def _log_bytes() -> int:
    text = os.environ.get("OFFERD_LOG_BYTES", "")
    if not text:
        return DEFAULT_LOG_BYTES
    if not text.isdigit() or int(text) == 0:
        raise BadInput(f"OFFERD_LOG_BYTES is {text!r}: write a number of bytes above 0")
    return int(text)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """Entry point of the module `offerd_executors.command`."""
    try:
        executor = CommandExecutor()
    except BadInput as error:
        sys.stderr.write(f"command executor: {error}\n")
        raise SystemExit(2) from None
    raise SystemExit(executor.run())


if __name__ == "__main__":
    main()
