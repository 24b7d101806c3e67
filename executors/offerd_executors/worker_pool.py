"""The workers of a python executor: it forks them, hands out idle ones, and ends those that have been idle for long."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable

from offerd.executor import ExecutorDriver
from offerd_executors.channel import Channel
from offerd_executors.trees import ProcessTrees, Tree
from offerd_executors.waiting_calls import WaitingCall
from offerd_executors.worker import run_worker

WORKERS_AT_START = 2
IDLE_S = 60.0
"""A worker beyond the initial ones ends when it has been idle for so long."""


class Worker:
    """A worker process, its channel and its tasks: the first is the one that it runs, the others it has not read yet."""

    __slots__ = (
        "channel",
        "head_since",
        "idle_since",
        "is_announced",
        "is_killed",
        "is_leaving",
        "is_open",
        "tasks",
        "tree",
    )

    def __init__(self, channel: Channel, tree: Tree) -> None:
        self.channel = channel
        self.tree = tree
        self.tasks: deque[WaitingCall] = deque()
        self.head_since = 0.0
        self.is_announced = False
        """RUNNING was sent for the first task."""
        self.idle_since = 0.0
        self.is_open = True
        """The channel is open."""
        self.is_killed = False
        """It was killed together with its task."""
        self.is_leaving = False
        """It was idle for too long, or the executor shuts down: its end says nothing about a task."""

    @property
    def takes_more(self) -> bool:
        return self.is_open and not self.is_killed and not self.is_leaving


class WorkerPool:
    """All workers of one executor. `on_readable(worker)` is called when it has answered or has died."""

    def __init__(
        self, driver: ExecutorDriver, trees: ProcessTrees, cpus: int, on_readable: Callable[[Worker], None]
    ) -> None:
        self._driver = driver
        self._trees = trees
        self._on_readable = on_readable
        self._made = 0
        self._is_shrinking = False
        self.at_start = min(cpus, WORKERS_AT_START)
        """The number of workers at the start, and the least later."""
        self.workers: dict[int, Worker] = {}
        """By pid."""
        self.idle: list[Worker] = []
        """Most recently used last: those at the front may be ended."""

    def fill(self) -> None:
        """Fork the initial workers. Raises `OSError`."""
        for _ in range(self.at_start):
            self.idle.append(self._fork())

    def add(self) -> bool:
        """Add one idle worker. False if the host has no descriptors or processes left; it is tried again while tasks wait."""
        try:
            self.idle.append(self._fork())
        except OSError as error:
            sys.stderr.write(f"python executor: no further worker: {error}\n")
            return False
        return True

    def _fork(self) -> Worker:
        channel = Channel(self._driver.sandbox)
        self._made += 1
        worker_id = f"{os.getpid()}.{self._made}"
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 warns of forks beside threads. The other thread is ZeroMQ's, which the child does not use.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                pid = os.fork()
            except OSError:
                channel.close()
                raise
        if pid == 0:
            run_worker(*channel.worker_fds(), self._driver.sandbox, worker_id)
        channel.forked()
        worker = Worker(channel, self._trees.add(pid, pid, worker_id))
        worker.idle_since = time.monotonic()
        self.workers[pid] = worker
        self._driver.add_reader(channel.fd, lambda: self._on_readable(worker))
        return worker

    def rest_if_done(self, worker: Worker) -> None:
        """A worker without tasks is idle, unless it can take no more."""
        if (
            not worker.tasks
            and worker.takes_more
            and worker.tree.pid in self.workers
            and worker not in self.idle
        ):
            worker.idle_since = time.monotonic()
            self.idle.append(worker)

    def shrink_later(self) -> None:
        """From now on end workers that stay idle, down to the initial number."""
        if not self._is_shrinking and len(self.workers) > self.at_start:
            self._is_shrinking = True
            self._driver.call_later(IDLE_S / 2, self._shrink)

    def _shrink(self) -> None:
        self._is_shrinking = False
        idle_before = time.monotonic() - IDLE_S
        for worker in [*self.idle]:
            if len(self.workers) - self._leaving() <= self.at_start or worker.idle_since > idle_before:
                break
            if worker not in self.idle:  # it ended while another was asked to end
                continue
            self.idle.remove(worker)
            worker.is_leaving = True
            self._trees.terminate(worker.tree, 1.0)
        self.shrink_later()

    def _leaving(self) -> int:
        return sum(worker.is_leaving for worker in self.workers.values())
