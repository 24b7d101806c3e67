"""The python executor: calls functions in a pool of long-lived workers, made for very many short tasks.

A task's `data` is a call (`offerd.calls`), which passes through here as bytes. Tasks wait in one queue; a
worker gets one at a time. The pool begins small, grows while tasks wait though they have been assigned, and
shrinks when idle.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import time
import warnings
from collections import deque
from typing import NamedTuple

import msgspec

from offerd.errors import BadInput
from offerd.executor import Executor, ExecutorDriver
from offerd.executor_loop import Timer
from offerd.ids import TaskID, is_valid_id
from offerd.messages import Reason, TaskInfo, TaskState, TaskUsage
from offerd_executors.trees import Forest, Tree, describe_exit
from offerd_executors.worker import LENGTH, RESULTS_DIRECTORY, decode_answer, pack_request, run_worker

WORKERS_AT_START = 2
MAX_WORKERS = 256
STALL_S = 0.005
"""A queue whose head waits longer has too few workers, if there are fewer than cpus."""
STANDSTILL_S = 0.02
"""A queue that stands still for so long has too few workers, however many; less is often the host being busy."""
IDLE_S = 60.0
"""A worker above those at the start that has had nothing to do for so long ends."""
HOLD_RUNNING_S = 0.002
"""While tasks wait, RUNNING is held back this long: for most calls it is never sent."""
HOLD_UPDATES_S = 0.002
"""While tasks wait, statuses are collected this long: the workers have something to do meanwhile."""
GROWTH_AT_ONCE = 16
"""Workers forked in one go: each stops the loop for a millisecond or two."""
READ_BYTES = 64 << 10
RESEND_S = 0.001
"""When to go on with a request that did not fit into the stream at once: its worker is reading it."""


class Worker:
    """A worker process, the stream to it, and the task that it has."""

    __slots__ = ("buffer", "fd", "idle_since", "is_killed", "is_leaving", "task_id", "tree", "unsent")

    def __init__(self, fd: int, tree: Tree) -> None:
        self.fd = fd
        self.tree = tree
        self.task_id: TaskID | None = None
        self.idle_since = 0.0
        self.is_killed = False
        """Its task was killed, and it with it."""
        self.is_leaving = False
        """Idle for too long, or at shutdown: its end says nothing about a task."""
        self.buffer = b""
        self.unsent = memoryview(b"")


class _Queued(NamedTuple):
    task_id: TaskID
    call: bytes
    since: float


class PythonExecutor(Executor):
    """Runs each task's `data` as a call."""

    def __init__(self) -> None:
        """Raises `BadInput` on an environment that cannot be used."""
        self.driver = ExecutorDriver(self)
        self._forest = Forest(self.driver, "OFFERD_WORKER_ID", self._on_worker_gone)
        self._queue: deque[_Queued] = deque()
        self._dropped: set[TaskID] = set()
        """Killed while queued: passed over when their turn comes."""
        self._workers: dict[int, Worker] = {}
        """By pid."""
        self._idle: list[Worker] = []
        """Last used first: those at the front may shrink away."""
        self._by_task: dict[TaskID, Worker] = {}
        self._workers_made = 0
        self._cpus = len(os.sched_getaffinity(0))
        self._at_start = min(self._cpus, WORKERS_AT_START)
        self._growth = 1
        self._last_dispatch = 0.0
        self._stall: Timer | None = None
        self._is_shrinking = False
        self._is_dispatching = False
        self._is_shutting_down = False

    def run(self) -> int:
        """Serve until the slave says to stop. Returns the exit status."""
        self._forest.start()
        # Workers share these pages until they write to them; a collection would write to all.
        gc.collect()
        gc.freeze()
        for _ in range(self._at_start):
            self._idle.append(self._new_worker())
        return self.driver.run()

    def launch_task(self, driver: ExecutorDriver, task: TaskInfo) -> None:
        """Queue it; the queue is served once for all tasks that came in this turn."""
        if not is_valid_id(task.task_id):
            driver.send_status(
                task.task_id,
                TaskState.FAILED,
                reason=Reason.TASK_INVALID,
                message="its id cannot name a file",
            )
            return
        self._queue.append(_Queued(task.task_id, task.data, time.monotonic()))
        self._dispatch_soon()

    def kill_task(self, driver: ExecutorDriver, task_id: TaskID, grace_s: float) -> None:
        """A queued task is dropped; a running one ends with its worker."""
        worker = self._by_task.get(task_id)
        if worker is not None:
            worker.is_killed = True
            self._forest.terminate(worker.tree, grace_s)
        elif task_id not in self._dropped:
            self._dropped.add(task_id)
            driver.send_status(task_id, TaskState.KILLED, message="killed before it was called")

    def shutdown(self, driver: ExecutorDriver, grace_s: float) -> None:
        """Drop the queue, end the workers."""
        self._is_shutting_down = True
        for queued in self._queue:
            if queued.task_id not in self._dropped:
                driver.send_status(queued.task_id, TaskState.KILLED, message="killed before it was called")
        self._queue.clear()
        for worker in [*self._workers.values()]:
            worker.is_killed = worker.is_leaving = True
            self._forest.terminate(worker.tree, grace_s)
        self._stop_if_done()

    # -- The queue
    # ----------------------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        if not self._is_dispatching:
            self._is_dispatching = True
            self.driver.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Give queued tasks to idle workers."""
        self._is_dispatching = False
        while self._queue and self._idle:
            queued = self._queue.popleft()
            if queued.task_id in self._dropped:
                self._dropped.discard(queued.task_id)
                continue
            if self._give(self._idle.pop(), queued):
                self._growth = 1
            else:
                self._queue.appendleft(queued)
        self.driver.hold_running_s = HOLD_RUNNING_S if self._queue else 0.0
        self.driver.hold_updates_s = HOLD_UPDATES_S if self._queue else 0.0
        if self._queue and self._stall is None:
            self._stall = self.driver.call_later(STALL_S, self._on_stall)

    def _give(self, worker: Worker, queued: _Queued) -> bool:
        """Send the call to an idle worker. False if that has died: nothing of the call has been read."""
        if not self._send(worker, memoryview(pack_request(queued.task_id, queued.call))):
            self._retire(worker)
            return False
        worker.task_id = queued.task_id
        self._by_task[queued.task_id] = worker
        self._last_dispatch = time.monotonic()
        self.driver.send_status(queued.task_id, TaskState.RUNNING)
        return True

    def _send(self, worker: Worker, data: memoryview) -> bool:
        try:
            sent = os.write(worker.fd, data)
        except BlockingIOError:
            sent = 0
        except BrokenPipeError:
            return False
        worker.unsent = data[sent:]
        if worker.unsent:
            self.driver.call_later(RESEND_S, lambda: self._resend(worker))
        return True

    def _resend(self, worker: Worker) -> None:
        if worker.fd >= 0 and not self._send(worker, worker.unsent):
            self._retire(worker)

    # -- The pool
    # -----------------------------------------------------------------------------------------------

    def _on_stall(self) -> None:
        """Grow. Up to the number of cpus if the head of the queue has waited; beyond, only if the queue
        stands still.

        A long queue of short calls is work for all cpus, but not for more workers than those.
        """
        self._stall = None
        if not self._queue or self._is_shutting_down:
            return
        now = time.monotonic()
        wanted = 0
        if len(self._workers) < self._cpus and now - self._queue[0].since >= STALL_S:
            wanted = self._cpus - len(self._workers)
        elif now - self._last_dispatch >= STANDSTILL_S:
            # Twice as many each time: 64 long calls are not to wait for 64 stalls.
            wanted, self._growth = self._growth, self._growth * 2
            self._last_dispatch = now
        growth = self._growth
        for _ in range(min(wanted, GROWTH_AT_ONCE, len(self._queue), MAX_WORKERS - len(self._workers))):
            self._idle.append(self._new_worker())
        self._dispatch()
        self._growth = growth
        self._shrink_later()

    def _new_worker(self) -> Worker:
        ours, its = socket.socketpair()
        self._workers_made += 1
        worker_id = f"{os.getpid()}.{self._workers_made}"
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside threads: ZeroMQ's is one that the child has no business with.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            run_worker(its.fileno(), self.driver.sandbox, worker_id)
        its.close()
        fd = ours.detach()
        os.set_blocking(fd, False)
        worker = Worker(fd, self._forest.add(pid, pid, worker_id))
        worker.idle_since = time.monotonic()
        self._workers[pid] = worker
        self.driver.add_reader(fd, lambda: self._on_readable(worker))
        return worker

    def _shrink_later(self) -> None:
        if not self._is_shrinking and len(self._workers) > self._at_start:
            self._is_shrinking = True
            self.driver.call_later(IDLE_S / 2, self._shrink)

    def _shrink(self) -> None:
        self._is_shrinking = False
        idle_before = time.monotonic() - IDLE_S
        for worker in [*self._idle]:
            if len(self._workers) - self._leaving() <= self._at_start or worker.idle_since > idle_before:
                break
            self._idle.remove(worker)
            worker.is_leaving = True
            self._forest.terminate(worker.tree, 1.0)
        self._shrink_later()

    def _leaving(self) -> int:
        return sum(worker.is_leaving for worker in self._workers.values())

    # -- Answers and deaths
    # -------------------------------------------------------------------------------------

    def _on_readable(self, worker: Worker) -> None:
        # At the stream's end it has died, or the framework's code has closed it: it is of no use any more.
        if not self._read(worker):
            self._retire(worker)

    def _retire(self, worker: Worker) -> None:
        """End a worker whose stream can be trusted no more; what it was doing fails when it is gone."""
        self._close(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._forest.kill(worker.tree)

    def _read(self, worker: Worker) -> bool:
        """Take in a part of an answer, or all of it. False at the stream's end, and if it holds anything else."""
        try:
            data = os.read(worker.fd, READ_BYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        if worker.buffer:
            data = worker.buffer + data
        missing = 4 + LENGTH.unpack_from(data)[0] - len(data) if len(data) >= 4 else 1
        if missing > 0:
            worker.buffer = data
            return True
        worker.buffer = b""
        # The framework's code can write into the stream, too: there is one answer to each call, and nothing else.
        return (
            missing == 0 and worker.task_id is not None and self._on_answer(worker, worker.task_id, data[4:])
        )

    def _has_more(self, worker: Worker) -> bool:
        """Whether a dead worker's stream held something, now taken in."""
        before = len(worker.buffer)
        return self._read(worker) and len(worker.buffer) != before

    def _close(self, worker: Worker) -> None:
        if worker.fd >= 0:
            self.driver.remove_reader(worker.fd)
            os.close(worker.fd)
            worker.fd = -1

    def _on_answer(self, worker: Worker, task_id: TaskID, packed: bytes) -> bool:
        """Report the call's end, unless it was killed: then KILLED is its end, once the worker is gone."""
        if worker.is_killed:
            return True
        try:
            answer = decode_answer(packed)
        except (msgspec.MsgspecError, ValueError):
            return False
        worker.task_id = None
        del self._by_task[task_id]
        self.driver.send_status(
            task_id,
            TaskState.FAILED if answer.has_raised else TaskState.FINISHED,
            data=answer.data,
            message=answer.message,
            reason=Reason.CALL_RAISED if answer.has_raised else "",
            usage=TaskUsage(answer.cpu_s),
        )
        if worker.tree.pid not in self._workers or worker.is_leaving:
            return True  # its last words
        worker.idle_since = time.monotonic()
        self._idle.append(worker)
        if self._queue:
            self._dispatch()
        return True

    def _on_worker_gone(self, tree: Tree) -> None:
        worker = self._workers.pop(tree.pid)
        # It may have answered before it died: all that it wrote is there now.
        while (
            worker.task_id is not None and worker.fd >= 0 and not worker.is_killed and self._has_more(worker)
        ):
            pass
        self._close(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        task_id = worker.task_id
        if task_id is not None:
            del self._by_task[task_id]
            self._report_death(task_id, worker)
        if self._is_shutting_down:
            self._stop_if_done()
            return
        if len(self._workers) < self._at_start:
            self._idle.append(self._new_worker())
        self._dispatch_soon()

    def _report_death(self, task_id: TaskID, worker: Worker) -> None:
        assert worker.tree.wait_status is not None
        exit_status, text = describe_exit(worker.tree.wait_status)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(os.path.join(self.driver.sandbox, RESULTS_DIRECTORY, task_id))  # perhaps half written
        self.driver.send_status(
            task_id,
            TaskState.KILLED if worker.is_killed else TaskState.FAILED,
            reason="" if worker.is_killed else Reason.WORKER_DIED,
            message=text if worker.is_killed else f"the call's worker died: {text}",
            exit_status=exit_status,
            usage=TaskUsage(worker.tree.usage.cpu_s, worker.tree.usage.peak_mem_bytes),
        )

    def _stop_if_done(self) -> None:
        if self._is_shutting_down and not self._workers:
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
