"""The command executor: it runs a program (or a series of programs) for each task, many tasks at once. Each task has a
directory, and each program a process tree of its own.

A task's command runs in `SANDBOX/tasks/TASK_ID/`, which is removed at the task's end if it is empty; its output goes to
`stdout` and `stderr` there. Its environment has `OFFERD_TASK_ID`, `OFFERD_TASK_SANDBOX`, and the Python that offerd runs on as
`OFFERD_PYTHON`. A program has ended when its first process and everything that this left behind have ended.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import OrderedDict, deque

from offerd.errors import BadInput, BadMessage
from offerd.executor import Executor, ExecutorDriver
from offerd.ids import TaskID, is_valid_id
from offerd.messages import Reason, TaskInfo, TaskOutput, TaskState, TaskUsage
from offerd.tasks import series
from offerd.tasks.sandbox_layout import TASKS
from offerd.tasks.task_output import DEFAULT_LOG_BYTES, EVERYTHING, KEEP_LABEL, UNTIL_READ, WHOLE, unpack_read
from offerd.wire.posix_text import word_of
from offerd_executors.output import Held, Output
from offerd_executors.programs import SECRETS, UMASK, Programs, why_not_started
from offerd_executors.spawner_client import SpawnerDied, spawner_client
from offerd_executors.task_dirs import TaskDirs
from offerd_executors.trees import ProcessTrees, Tree
from offerd_linux.exits import describe_exit
from offerd_linux.prctl import set_dumpable

MOST_YOUNG = 24
"""Most programs that were started within `YOUNG_S` and still run. Most short programs end in that time, and starting few at a
time keeps the processor's caches warm.
"""
YOUNG_S = 0.004
HOLD_RUNNING_S = 0.01
"""RUNNING is held so long if tasks come faster than this: it is then never sent for a task that ends sooner."""
WATCH_AFTER_S = 0.01
"""How long a command's output may wait in its pipes at first."""
LONGEST_HOLD_RUNNING_S = 0.05
"""The same in a stream of short tasks that uses all cpus: each then takes longer than it would alone."""
LONGEST_HOLD_S = 0.02
"""A busy executor collects statuses for so long: see `_hold_updates_s`."""
LONGEST_HOLD_OF_SHORT_S = 0.008
PART_OF_A_TASK = 0.05
FEW_TASKS = 8
BUSY_TASKS_PER_S = 150.0
RATE_WINDOW_S = 0.1
SERIES_OUTPUT_BYTES = 64 << 10
"""When the programs of a series have written so much, the status carries no more: the series ends with this program."""
NOT_STARTED_EXIT_STATUS = 127
"""The exit status that a shell gives a command which it cannot start."""
DESCRIPTORS = 16384
"""Open files wanted: three for each task that prints."""


class _Running:
    """A task that has been started: one of its programs runs, or is about to."""

    __slots__ = (
        "argv",
        "cpu_s",
        "cwd",
        "directory",
        "environ",
        "held",
        "inline_bytes",
        "is_inline",
        "is_killed",
        "keeps",
        "mem_bytes",
        "more",
        "no_more_at",
        "outputs",
        "parts",
        "peak_mem_bytes",
        "task_id",
        "tree",
        "turn_at",
        "umask",
        "written",
    )

    outputs: tuple[Output, ...]
    """The pipes of stdout and stderr, the same two for all programs of a series."""
    held: Held | None

    def __init__(
        self,
        task: TaskInfo,
        argv: list[str],
        more: list[list[str]],
        directory: str,
        environ: dict[str, str],
        cwd: str,
        umask: int,
    ) -> None:
        self.task_id = task.task_id
        self.mem_bytes = task.resources.mem_bytes or None
        self.argv = argv
        self.more = deque(more)
        self.no_more_at = 0.0
        self.directory = directory
        self.environ = environ
        self.cwd = cwd
        self.umask = umask
        self.is_inline = _is_inline(task)
        self.keeps = _keeps(task)
        self.inline_bytes = 0
        self.outputs = ()
        self.tree: Tree | None = None
        """None between two programs."""
        self.turn_at = time.monotonic()
        """When the next program could be started."""
        self.parts: list[series.Part] = []
        self.is_killed = False
        self.cpu_s = 0.0
        self.peak_mem_bytes = 0
        self.written = TaskOutput()


class CommandExecutor(Executor):
    """Runs each task's `CommandInfo`."""

    places_tasks = True

    def __init__(self) -> None:
        """Raises `BadInput` on an invalid environment."""
        self._spawner = spawner_client(os.environ)
        self._programs = Programs(self._spawner)
        self.driver = ExecutorDriver(self)
        self._tasks_dir = os.path.join(self.driver.sandbox, TASKS)
        self._dirs = TaskDirs(self.driver, self._tasks_dir)
        self._last_start = 0.0
        self._ended = self._ended_before = 0
        self._ends_per_s = 0.0
        self._rated_at = time.monotonic()
        self._log_bytes = _log_bytes()
        environ = {word_of(name): word_of(value) for name, value in os.environb.items()}
        self._environ = {name: value for name, value in environ.items() if name not in SECRETS}
        if "OFFERD_IMAGE" not in os.environ:  # an image has its own Python, or none
            self._environ["OFFERD_PYTHON"] = sys.executable
        self._waiting: OrderedDict[TaskID, TaskInfo] = OrderedDict()
        self._running: dict[TaskID, _Running] = {}
        self._going_on: OrderedDict[TaskID, _Running] = OrderedDict()
        """Series whose next program is to be started."""
        self._unwatched: deque[tuple[float, _Running, Tree]] = deque()
        self._young: deque[tuple[float, Tree]] = deque()  # with the time until which each counts as young
        self._is_starting = False
        self._is_aging = False
        self._is_shutting_down = False
        self._trees = ProcessTrees(self.driver, "OFFERD_TASK_ID", self._on_gone, self._spawner)

    def run(self) -> int:
        """Serve until the slave shuts the executor down; returns the exit status."""
        if self._spawner is not None:
            # The spawner obeys us, so no task, which runs as the same user, may read our memory or trace us.
            set_dumpable(False)
        os.makedirs(self._tasks_dir, mode=0o700, exist_ok=True)
        self._programs.interrupt_no_task()
        _raise_descriptor_limit()
        self._trees.start()
        exit_status = self.driver.run()
        self._dirs.close()
        return exit_status

    def launch_task(self, driver: ExecutorDriver, task: TaskInfo) -> None:
        """Queue the task; a few are started in each turn of the loop."""
        self._waiting[task.task_id] = task
        self._start_soon()

    def kill_task(self, driver: ExecutorDriver, task_id: TaskID, grace_s: float) -> None:
        """Send SIGTERM to the whole tree, and SIGKILL after the grace."""
        running = self._running.get(task_id)
        if running is not None:
            running.is_killed = True
            if running.tree is not None:
                self._trees.terminate(running.tree, grace_s)
            else:
                del self._going_on[task_id]
                self._end(running)
        elif self._waiting.pop(task_id, None) is not None:
            driver.send_status(task_id, TaskState.KILLED, message="killed before it was started")

    def shutdown(self, driver: ExecutorDriver, grace_s: float) -> None:
        """Kill every task; the executor ends with the last."""
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

    def _start_later(self) -> None:
        """Start more when the oldest young program is not young any more; sooner if one ends."""
        if not self._young:
            self._start_soon()
        elif not self._is_aging:
            self._is_aging = True
            self.driver.call_later(max(0.0, self._young[0][0] - time.monotonic()), self._on_aged)

    def _on_aged(self) -> None:
        self._is_aging = False
        self._start_soon()

    def _start_some(self) -> None:
        self._is_starting = False
        now = time.monotonic()
        while self._young and (self._young[0][0] <= now or self._young[0][1].wait_status is not None):
            self._young.popleft()
        for _ in range(MOST_YOUNG - sum(tree.wait_status is None for _, tree in self._young)):
            if self._going_on:
                self._go_on(self._going_on.popitem(last=False)[1])
            elif self._waiting:
                self._start(self._waiting.popitem(last=False)[1])
            else:
                break
        if self._waiting or self._going_on:
            self._start_later()
        is_busy = bool(self._waiting) or now - self._last_start < HOLD_RUNNING_S
        self.driver.hold_updates_s = hold_s = self._hold_updates_s(now)
        self.driver.hold_running_s = LONGEST_HOLD_RUNNING_S if hold_s else HOLD_RUNNING_S if is_busy else 0.0
        self._last_start = now

    def _hold_updates_s(self, now: float) -> float:
        """How long statuses are collected: a small part of the time that a task takes; if tasks end fast, until half of those
        here have probably ended. What is sent together stays together all the way to the scheduler and back, as new tasks for
        the freed resources.
        """
        elapsed_s = now - self._rated_at
        if elapsed_s >= RATE_WINDOW_S:
            self._ends_per_s = (self._ended - self._ended_before) / elapsed_s
            self._rated_at, self._ended_before = now, self._ended
        outstanding = len(self._running) + len(self._waiting)
        if outstanding < FEW_TASKS or not self._ends_per_s:
            return 0.0
        task_s = outstanding / self._ends_per_s
        hold_s = task_s * PART_OF_A_TASK
        if self._ends_per_s >= BUSY_TASKS_PER_S:
            hold_s = max(hold_s, min(LONGEST_HOLD_OF_SHORT_S, task_s / 2))
        return min(LONGEST_HOLD_S, hold_s)

    def _start(self, task: TaskInfo) -> None:
        command = task.command
        if command is None or not (command.argv or command.shell) or not is_valid_id(task.task_id):
            self._not_started(task, "a task that has no command")
            return
        argv = command.argv or ["/bin/sh", "-c", command.shell]
        directory = f"{self._tasks_dir}/{task.task_id}"
        environ = {
            **self._environ,
            **command.environment,
            "OFFERD_TASK_ID": task.task_id,
            "OFFERD_TASK_SANDBOX": directory,
        }
        cwd = os.path.join(directory, command.directory) if command.directory else directory
        umask = UMASK if command.umask is None else command.umask
        running = _Running(task, argv, command.series, directory, environ, cwd, umask)
        try:
            self._dirs.make(task.task_id)
            self._spawn(running)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            self._close(running)
            self._dirs.release(directory)
            self._not_started(task, why_not_started(error, argv[0], cwd))
            return
        running.no_more_at = time.monotonic() + command.series_s
        self._running[task.task_id] = running
        self.driver.send_status(task.task_id, TaskState.RUNNING)

    def _spawn(self, running: _Running) -> None:
        """Start the next program. Raises `OSError` or `ValueError` if it was not started."""
        held = running.held = Held() if running.is_inline else None
        if running.outputs:
            for output in running.outputs:
                output.go_on(held)
        else:
            running.outputs = self._outputs(running, held)
        stdout, stderr = running.outputs
        try:
            pid = self._programs.start(
                running.task_id,
                running.argv,
                running.environ,
                running.cwd,
                stdout.write_fd,
                stderr.write_fd,
                running.mem_bytes,
                running.umask,
            )
        except SpawnerDied as error:
            # No task can be started here any more; the slave will start another executor.
            sys.stderr.write(f"command executor: {error}\n")
            os._exit(1)
        tree = running.tree = self._trees.add(running.task_id, pid, running.task_id)
        self._young.append((time.monotonic() + YOUNG_S, tree))
        if not running.more:
            for output in running.outputs:
                output.close_write_fd()
        self._watch_later(running, tree)

    def _outputs(self, running: _Running, held: Held | None) -> tuple[Output, ...]:
        """Open the pipes. Raises `OSError`, and then none is open."""
        outputs: list[Output] = []
        try:
            for name in ("stdout", "stderr"):
                outputs.append(Output(f"{running.directory}/{name}", self._log_bytes, held, running.keeps))
        except OSError:
            for output in outputs:
                output.close()
            raise
        return tuple(outputs)

    def _go_on(self, running: _Running) -> None:
        """Start the next program of a series."""
        try:
            self._spawn(running)
        except (OSError, ValueError) as error:
            running.parts.append(
                _never_started(f"cannot start {why_not_started(error, running.argv[0], running.cwd)}")
            )
            self._next_or_end(running)

    def _not_started(self, task: TaskInfo, why: str) -> None:
        part = _never_started(f"cannot start {why}")
        self.driver.send_status(
            task.task_id,
            TaskState.FAILED,
            data=series.pack([part]) if _is_inline(task) else b"",
            reason=Reason.COMMAND_NOT_STARTED,
            message=part.message,
            output=TaskOutput(),
        )

    # -- Output
    # -------------------------------------------------------------------------------------------------

    def _watch_later(self, running: _Running, tree: Tree) -> None:
        """Most short commands end before it is worth watching their pipes; their output is then read at their end."""
        self._unwatched.append((time.monotonic() + WATCH_AFTER_S, running, tree))
        if len(self._unwatched) == 1:
            self.driver.call_later(WATCH_AFTER_S, self._watch_due)

    def _watch_due(self) -> None:
        now = time.monotonic()
        while self._unwatched:
            due, running, tree = self._unwatched[0]
            if due > now:
                self.driver.call_later(due - now, self._watch_due)
                return
            self._unwatched.popleft()
            if running.tree is tree:
                for output in running.outputs:
                    self._watch(output)

    def _watch(self, output: Output) -> None:
        output.is_watched = True
        self.driver.add_reader(output.read_fd, lambda: self._on_output(output))

    def _unwatch(self, output: Output) -> None:
        if output.is_watched:
            output.is_watched = False
            self.driver.remove_reader(output.read_fd)

    def _on_output(self, output: Output) -> None:
        # A read that gets nothing from a pipe which epoll reports is its end. One read a turn is fair to other pipes.
        if not output.read():
            self._unwatch(output)
            if not output.is_stalled:
                output.close()

    def framework_message(self, driver: ExecutorDriver, data: bytes) -> None:
        """The scheduler has read some of a task's output: a program that waits for that goes on."""
        try:
            read = unpack_read(data)
        except BadMessage as error:
            sys.stderr.write(f"command executor: a message from the scheduler is not understood: {error}\n")
            return
        running = self._running.get(read.task_id)
        if running is None:
            if read.stdout_bytes == read.stderr_bytes == EVERYTHING and is_valid_id(read.task_id):
                self._dirs.forget_output(read.task_id)
            return
        for output, read_to in zip(running.outputs, (read.stdout_bytes, read.stderr_bytes), strict=False):
            if output.was_read(read_to) and output.is_open and not output.is_watched:
                self._watch(output)

    def _close(self, running: _Running) -> None:
        for output in running.outputs:
            self._unwatch(output)
            output.close()

    # -- Ends
    # ---------------------------------------------------------------------------------------------------

    def _on_gone(self, tree: Tree) -> None:
        running = self._running[TaskID(str(tree.key))]
        running.tree = None
        for output in running.outputs:
            # A pipe is not read to its end, as a process outside of the tree that holds it would hold up the task.
            if output.is_open:
                output.drain()
            self._unwatch(output)
        running.parts.append(self._part(running, tree))
        self._next_or_end(running)

    def _part(self, running: _Running, tree: Tree) -> series.Part:
        """The outcome of the program that has just ended."""
        assert tree.wait_status is not None
        exit_status, text = describe_exit(tree.wait_status)
        if exit_status == 0:
            text = ""
        if lost := next((output.error for output in running.outputs if output.error), ""):
            text = f"{text}; output lost: {lost}".lstrip("; ")
        running.cpu_s += tree.usage.cpu_s
        running.peak_mem_bytes = max(running.peak_mem_bytes, tree.usage.peak_mem_bytes)
        held = running.held.outputs() if running.held is not None else None
        stdout, stderr = held or (b"", b"")
        running.inline_bytes += len(stdout) + len(stderr)
        elapsed_s = time.monotonic() - running.turn_at
        out, err = (output.written_bytes for output in running.outputs)
        before = running.written
        running.written = TaskOutput(before.stdout_bytes + out, before.stderr_bytes + err)
        return series.Part(
            exit_status, elapsed_s, stdout, stderr, held is None, running.is_killed, message=text,
            output=TaskOutput(out, err),
        )  # fmt: skip

    def _next_or_end(self, running: _Running) -> None:
        now = time.monotonic()
        if (
            not running.more
            or running.is_killed
            or now >= running.no_more_at
            or running.inline_bytes > SERIES_OUTPUT_BYTES
            # The next program must also begin in an empty directory, and output in files belongs to one program only.
            or not self._dirs.is_empty(running.directory)
        ):
            self._end(running)
            return
        running.argv = running.more.popleft()
        running.turn_at = now
        self._going_on[running.task_id] = running
        self._start_soon()

    def _end(self, running: _Running) -> None:
        del self._running[running.task_id]
        self._ended += 1
        self._close(running)
        self._dirs.release(running.directory)
        bad = [part for part in running.parts if part.exit_status != 0]
        exit_status = bad[0].exit_status if bad else 0
        text = next((part.message for part in running.parts if part.message), "")
        state, reason = TaskState.FINISHED, ""
        if running.is_killed:
            state, text = TaskState.KILLED, text or "killed between two programs"
        elif bad:
            state = TaskState.FAILED
            reason = Reason.COMMAND_EXITED if bad[0].is_started else Reason.COMMAND_NOT_STARTED
        if bad and len(running.parts) > 1:
            text = f"{len(bad)} of {len(running.parts)} programs ended badly, the first: {text}"
        self.driver.send_status(
            running.task_id,
            state,
            data=series.pack(running.parts) if running.is_inline or len(running.parts) > 1 else b"",
            reason=reason,
            message=text,
            exit_status=exit_status,
            usage=TaskUsage(running.cpu_s, running.peak_mem_bytes),
            output=running.written,
        )
        self._stop_if_done()
        if self._waiting or self._going_on:
            self._start_soon()  # now there is one young program less

    def _stop_if_done(self) -> None:
        if self._is_shutting_down and not self._running and not self._waiting:
            self.driver.stop()


def _is_inline(task: TaskInfo) -> bool:
    return task.labels.get(series.INLINE_LABEL) == "1"


def _keeps(task: TaskInfo) -> str:
    """The value of the label that says which output to keep; "" (only up to the log's size) for an unknown value."""
    wanted = task.labels.get(KEEP_LABEL, "")
    return wanted if wanted in (WHOLE, UNTIL_READ) else ""


def _never_started(why: str) -> series.Part:
    return series.Part(NOT_STARTED_EXIT_STATUS, 0.0, is_started=False, message=why, output=TaskOutput())


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
