"""The python executor: it calls functions in a pool of long-lived workers, made for very many short tasks.

A task's `data` is a call (`offerd.python_calls.calls`), which passes through here as bytes. Tasks wait in one queue. A worker
gets one at a time, or several ahead while calls are short (`offerd_executors.channel` says why that is safe). The pool starts
small, grows while tasks wait, and shrinks when idle.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections import deque
from functools import partial

import msgspec

from offerd.drivers.executor_loop import Timer
from offerd.errors import BadInput, BadMessage
from offerd.executor import Executor, ExecutorDriver
from offerd.ids import SlaveID, TaskID, is_valid_id
from offerd.messages import ExecutorInfo, FrameworkInfo, Reason, TaskInfo, TaskState, TaskUsage
from offerd.python_calls import large_calls
from offerd.tasks.sandbox_layout import RESULTS
from offerd.tasks.task_output import unpack_taken
from offerd_executors import initializer
from offerd_executors.channel import ChannelBroken, forget_call
from offerd_executors.large_calls import LargeCalls
from offerd_executors.spawner_client import spawner_client
from offerd_executors.trees import ProcessTrees, Tree
from offerd_executors.waiting_calls import WaitingCall, WaitingCalls
from offerd_executors.worker import CALLS_DIRECTORY, decode_answer
from offerd_executors.worker_pool import Worker, WorkerPool
from offerd_linux.exits import describe_exit

MAX_WORKERS = 256
STALL_S = 0.005
"""If the head of the queue waits longer, there are too few workers, up to one for each cpu. Calls that wait longer behind a
call in a worker are taken back.
"""
STANDSTILL_S = 0.02
"""If the queue stands still for so long, there are too few workers, however many. A shorter pause often means a busy host."""
SHORT_CALL_S = 0.001
"""While calls take less than this on average, they are sent ahead and their RUNNING is held back."""
AHEAD = 8
"""Most calls that a worker may have while they are short, the running one included."""
HOLD_RUNNING_S = 0.002
"""How long the RUNNING of a short call is held back: for most it is never sent."""
STREAM_S = 0.005
"""A short call so soon after another belongs to a stream of them."""
HOLD_UPDATES_S = 0.002
"""While tasks wait, statuses are collected for so long; the workers have enough to do meanwhile."""
GROWTH_AT_ONCE = 16
"""Most workers forked at once: each fork stops the loop for a millisecond or two."""


class PythonExecutor(Executor):
    """Runs each task's `data` as a call."""

    def __init__(self) -> None:
        """Raises `BadInput` on an invalid environment."""
        if (spawner := spawner_client(os.environ)) is not None:
            spawner.close()  # not needed: workers run in the executor's cgroup
        self.driver = ExecutorDriver(self)
        self._trees = ProcessTrees(self.driver, "OFFERD_WORKER_ID", self._on_worker_gone)
        self._waiting = WaitingCalls(lambda task_id: forget_call(self.driver.sandbox, task_id))
        self._cpus = len(os.sched_getaffinity(0))
        self._pool = WorkerPool(self.driver, self._trees, self._cpus, self._on_readable)
        self._by_task: dict[TaskID, Worker] = {}
        self._growth = 1
        self._last_dispatch = 0.0
        self._call_s = 1.0
        """How long calls have taken recently, in seconds. It begins with a large value, which is the safe side."""
        self._last_answer = 0.0
        self._large = LargeCalls(self.driver.send_framework_message, self.driver.call_later)
        self._has_initializer_to_come = False
        self._stall: Timer | None = None
        self._announcement: Timer | None = None
        self._is_dispatching = False
        self._is_shutting_down = False

    def run(self) -> int:
        """Serve until the slave shuts the executor down; returns the exit status."""
        self._trees.start()
        # Workers share these pages until they write to them; a garbage collection would write to all.
        gc.collect()
        gc.freeze()
        self._pool.fill()
        return self.driver.run()

    def registered(
        self,
        driver: ExecutorDriver,
        framework: FrameworkInfo,
        executor: ExecutorInfo,
        slave_id: SlaveID,
        sandbox: str,
    ) -> None:
        """Store the framework's initializer for the workers, none of which has made a call yet."""
        size_bytes = large_calls.size_in(executor.data)
        if size_bytes is not None:
            self._has_initializer_to_come = True
            path = os.path.join(sandbox, initializer.FILE)
            self._large.fetch("", size_bytes, path, self._on_initializer)
        elif executor.data:
            try:
                initializer.store(executor.data, sandbox)
            except OSError as error:
                self._on_initializer(str(error))

    def _on_initializer(self, fault: str) -> None:
        if fault:
            sys.stderr.write(f"python executor: the initializer: {fault}\n")
            raise SystemExit(1)  # no call may be made without it
        self._has_initializer_to_come = False
        self._dispatch_soon()

    def launch_task(self, driver: ExecutorDriver, task: TaskInfo) -> None:
        """Queue the task; the queue is served once for all tasks that came in this turn."""
        if not is_valid_id(task.task_id):
            driver.send_status(
                task.task_id,
                TaskState.FAILED,
                reason=Reason.TASK_INVALID,
                message="its id cannot name a file",
            )
            return
        size_bytes = large_calls.size_in(task.data)
        if size_bytes is None:
            self._enqueue(task.task_id, task.data)
        else:
            path = os.path.join(driver.sandbox, CALLS_DIRECTORY, task.task_id)
            self._large.fetch(task.task_id, size_bytes, path, partial(self._on_large_call, task.task_id))

    def _on_large_call(self, task_id: TaskID, fault: str) -> None:
        if fault:
            self.driver.send_status(task_id, TaskState.FAILED, message=fault)
        else:
            self._enqueue(task_id, None)

    def _enqueue(self, task_id: TaskID, call: bytes | None) -> None:
        self._waiting.put(WaitingCall(task_id, call, time.monotonic()))
        self._dispatch_soon()

    def kill_task(self, driver: ExecutorDriver, task_id: TaskID, grace_s: float) -> None:
        """Drop a waiting task; end a running one together with its worker."""
        worker = self._by_task.get(task_id)
        if worker is not None:
            # Requests that it has not read go back to the queue, and answered ones are over: at most the running call is left.
            self._take_back(worker)
            self._read_all(worker)
            self._dispatch_soon()
            worker = self._by_task.get(task_id)
        if worker is not None:
            worker.is_killed = True
            self._trees.terminate(worker.tree, grace_s)
        elif self._large.forget(task_id) or self._waiting.kill(task_id):
            driver.send_status(task_id, TaskState.KILLED, message="killed before it was called")

    def framework_message(self, driver: ExecutorDriver, data: bytes) -> None:
        """A piece of a large call; or large results were fetched, or are not wanted, and their files are removed."""
        if self._large.take(data):
            return
        try:
            taken = unpack_taken(data)
        except BadMessage as error:
            sys.stderr.write(f"python executor: a message from the scheduler is not understood: {error}\n")
            return
        for task_id in taken.task_ids:
            if is_valid_id(task_id) and task_id not in self._by_task:
                with contextlib.suppress(OSError):  # it is gone already
                    os.unlink(os.path.join(self.driver.sandbox, RESULTS, task_id))

    def shutdown(self, driver: ExecutorDriver, grace_s: float) -> None:
        """Drop the queue and end the workers."""
        self._is_shutting_down = True
        for worker in [*self._pool.workers.values()]:
            self._take_back(worker)
            self._read_all(worker)
        for waiting_id in self._waiting.take_all():
            driver.send_status(waiting_id, TaskState.KILLED, message="killed before it was called")
        for task_id in filter(None, self._large.all_ids()):
            self._large.forget(task_id)
            driver.send_status(task_id, TaskState.KILLED, message="killed before it was called")
        for worker in [*self._pool.workers.values()]:
            worker.is_killed = worker.is_leaving = True
            self._trees.terminate(worker.tree, grace_s)
        self._stop_if_done()

    # -- The queue
    # ----------------------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        if not self._is_dispatching:
            self._is_dispatching = True
            self.driver.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give waiting tasks to idle workers; short ones also to busy workers."""
        self._is_dispatching = False
        if self._is_shutting_down or self._has_initializer_to_come:
            return
        now = time.monotonic()
        idle = self._pool.idle
        while idle and (waiting := self._waiting.next()) is not None:
            worker = idle.pop()
            if self._give(worker, waiting, now):
                self._growth = 1
            else:
                self._waiting.put_back(waiting)
                self._retire(worker)
        if self._waiting and self._call_s < SHORT_CALL_S:
            for worker in self._pool.workers.values():
                # Not to a worker whose call has turned out to be a long one.
                if worker.takes_more and worker.tasks and now - worker.head_since < STALL_S:
                    self._fill(worker, now)
        self.driver.hold_updates_s = HOLD_UPDATES_S if self._waiting else 0.0
        if self._stall is None and (
            self._waiting or any(len(w.tasks) > 1 for w in self._pool.workers.values())
        ):
            self._stall = self.driver.call_later(STALL_S, self._on_stall)

    def _fill(self, worker: Worker, now: float) -> None:
        while len(worker.tasks) < AHEAD and (waiting := self._waiting.next()) is not None:
            if not self._give(worker, waiting, now):
                self._waiting.put_back(waiting)
                return

    def _give(self, worker: Worker, waiting: WaitingCall, now: float) -> bool:
        """Send the call to a worker. False if the kernel takes no more requests for it."""
        try:
            if not worker.channel.send(waiting.task_id, waiting.call):
                return False
        except OSError as error:
            text = f"its call cannot be stored in the sandbox: {error.strerror}"
            self.driver.send_status(waiting.task_id, TaskState.FAILED, message=text)
            self._pool.rest_if_done(worker)
            return True
        worker.tasks.append(waiting)
        self._by_task[waiting.task_id] = worker
        self._last_dispatch = now
        if len(worker.tasks) == 1:
            self._begin(worker, now)
        return True

    def _begin(self, worker: Worker, now: float) -> None:
        """The worker now runs the first of its tasks. In a stream of short calls RUNNING is held back for it."""
        worker.head_since = now
        worker.is_announced = False
        if self._call_s >= SHORT_CALL_S or (not self._waiting and now - self._last_answer > STREAM_S):
            self._announce(worker)
        elif self._announcement is None:
            self._announcement = self.driver.call_later(HOLD_RUNNING_S, self._announce_due)

    def _announce(self, worker: Worker) -> None:
        worker.is_announced = True
        self.driver.send_status(worker.tasks[0].task_id, TaskState.RUNNING)

    def _announce_due(self) -> None:
        """Send RUNNING for calls that were expected to be short and still run."""
        self._announcement = None
        now = time.monotonic()
        silent = False
        for worker in self._pool.workers.values():
            if worker.tasks and not worker.is_announced:
                if now - worker.head_since >= HOLD_RUNNING_S / 2:
                    self._announce(worker)
                else:
                    silent = True
        if silent:
            self._announcement = self.driver.call_later(HOLD_RUNNING_S, self._announce_due)

    def _take_back(self, worker: Worker) -> None:
        """Put the calls that a worker has not read back into the queue, in their old places."""
        if not worker.is_open or not (taken := set(worker.channel.take_back())):
            return
        kept: deque[WaitingCall] = deque()
        for waiting in reversed(worker.tasks):
            if waiting.task_id in taken:
                if waiting.call is not None:
                    forget_call(self.driver.sandbox, waiting.task_id)
                del self._by_task[waiting.task_id]
                self._waiting.put_back(waiting)
            else:
                kept.appendleft(waiting)
        worker.tasks = kept
        self._pool.rest_if_done(worker)

    # -- The pool
    # -----------------------------------------------------------------------------------------------

    def _on_stall(self) -> None:
        """Add workers: up to the number of cpus if the head of the queue has waited; beyond that only if the queue stands
        still.

        A long queue of short calls keeps all cpus busy, but needs no more workers than that.
        """
        self._stall = None
        if self._is_shutting_down:
            return
        now = time.monotonic()
        for worker in self._pool.workers.values():
            if len(worker.tasks) > 1 and now - worker.head_since >= STALL_S:
                self._take_back(worker)
        if not self._waiting:
            self._dispatch()
            return
        wanted = 0
        if len(self._pool.workers) < self._cpus and now - self._waiting.head_since >= STALL_S:
            wanted = self._cpus - len(self._pool.workers)
        elif now - self._last_dispatch >= STANDSTILL_S:
            # Twice as many each time, so that 64 long calls do not wait for 64 stalls.
            wanted, self._growth = self._growth, self._growth * 2
            self._last_dispatch = now
        growth = self._growth
        for _ in range(
            min(wanted, GROWTH_AT_ONCE, len(self._waiting), MAX_WORKERS - len(self._pool.workers))
        ):
            if not self._pool.add():
                break
        self._dispatch()
        self._growth = growth
        self._pool.shrink_later()

    # -- Answers and deaths
    # -------------------------------------------------------------------------------------

    def _on_readable(self, worker: Worker) -> None:
        # At the end of the stream the worker has died, or the framework's code has closed it: it cannot be used any more.
        if self._read(worker) is False:
            self._retire(worker)
        elif self._waiting and len(worker.tasks) <= AHEAD // 2:
            self._dispatch()

    def _retire(self, worker: Worker) -> None:
        """End a worker whose channel cannot be trusted any more; its call fails when the worker is gone."""
        self._close(worker)
        # Workers that are killed or leave have been asked to end, and still have their grace.
        if not worker.is_killed and not worker.is_leaving:
            self._trees.kill(worker.tree)

    def _read(self, worker: Worker) -> bool | None:
        """Handle the answers that are there. None if there are none; False if the channel cannot be trusted any more."""
        try:
            answers = worker.channel.read()
        except ChannelBroken:
            return False
        if answers is None:
            return None
        # The framework's code can write to the stream, too: only one answer to each call is accepted.
        return all(worker.tasks and self._on_answer(worker, answer) for answer in answers)

    def _read_all(self, worker: Worker) -> None:
        """Handle everything that a worker has answered so far."""
        trusted: bool | None = True
        while worker.is_open and not worker.is_killed and trusted:
            trusted = self._read(worker)
        if trusted is False:
            self._retire(worker)

    def _close(self, worker: Worker) -> None:
        if worker.is_open:
            self._take_back(worker)
            worker.is_open = False
            self.driver.remove_reader(worker.channel.fd)
            worker.channel.close()
        if worker in self._pool.idle:
            self._pool.idle.remove(worker)

    def _on_answer(self, worker: Worker, packed: bytes) -> bool:
        """Report the call's end. If the call was killed, that is reported as KILLED once the worker is gone."""
        if worker.is_killed:
            return True
        try:
            answer = decode_answer(packed)
        except (msgspec.MsgspecError, ValueError):
            return False
        task_id = worker.tasks[0].task_id
        if answer.task_id != task_id:
            return False
        worker.tasks.popleft()
        del self._by_task[task_id]
        self._call_s += (answer.wall_s - self._call_s) / 4
        now = self._last_answer = time.monotonic()
        self.driver.send_status(
            task_id,
            TaskState.FAILED if answer.has_raised else TaskState.FINISHED,
            data=answer.data,
            message=answer.message,
            reason=Reason.CALL_RAISED if answer.has_raised else "",
            usage=TaskUsage(answer.cpu_s),
        )
        if worker.tasks:
            self._begin(worker, now)
        else:
            self._pool.rest_if_done(worker)
        return True

    def _on_worker_gone(self, tree: Tree) -> None:
        worker = self._pool.workers.pop(tree.pid)
        # It may have answered before it died; everything that it wrote is there now.
        if worker.is_open:
            self._take_back(worker)
            while worker.tasks and not worker.is_killed and self._read(worker):
                pass
        self._close(worker)
        for waiting in worker.tasks:
            del self._by_task[waiting.task_id]
            forget_call(self.driver.sandbox, waiting.task_id)
            self._report_death(waiting.task_id, worker)
        if self._is_shutting_down:
            self._stop_if_done()
            return
        if len(self._pool.workers) < self._pool.at_start:
            self._pool.add()
        self._dispatch_soon()

    def _report_death(self, task_id: TaskID, worker: Worker) -> None:
        assert worker.tree.wait_status is not None
        exit_status, text = describe_exit(worker.tree.wait_status)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(os.path.join(self.driver.sandbox, RESULTS, task_id))  # it may be half written
        self.driver.send_status(
            task_id,
            TaskState.KILLED if worker.is_killed else TaskState.FAILED,
            reason="" if worker.is_killed else Reason.WORKER_DIED,
            message=text if worker.is_killed else f"the call's worker died: {text}",
            exit_status=exit_status,
            usage=TaskUsage(worker.tree.usage.cpu_s, worker.tree.usage.peak_mem_bytes),
        )

    def _stop_if_done(self) -> None:
        if self._is_shutting_down and not self._pool.workers:
            self.driver.stop()


def main() -> None:
    """Entry point of the module `offerd_executors.python`."""
    try:
        executor = PythonExecutor()
    except BadInput as error:
        sys.stderr.write(f"python executor: {error}\n")
        raise SystemExit(2) from None
    raise SystemExit(executor.run())


if __name__ == "__main__":
    main()
