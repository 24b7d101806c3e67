"""Isolation without limits: plain process trees, tracked and ended as a whole. Works without root, for development.

What belongs to a container is found in two ways:

- While its shim lives, the container is exactly the shim's descendants: the shim is a subreaper, so that whatever calls
  setsid, forks twice or clears its environment stays below it.
- When the shim is gone (killed, or ended after it had killed the rest), what is left is found by the mark that `prepare`
  put into the environment, and below and in the sessions of what carries it. A process that leaves its session, clears
  its environment and loses both its shim and the zygote (which kills what it inherits) escapes; cgroups close that gap.
  On a host with a writable cgroup v2 mount without controllers, `cgroup.kill` would too: not used here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from offerd.ids import ContainerID, TaskID
from offerd_isolation import process_table, procfs
from offerd_isolation.base import (
    DEFAULT_OPTIONS,
    ContainerSpec,
    Isolation,
    IsolationError,
    IsolationOptions,
    Launch,
    ProcessID,
    Tell,
    Usage,
    tell_nobody,
)
from offerd_isolation.process_table import CONTAINER_MARK, SHIM_MARK, TASK_MARK, Process

KILL_ROUNDS = 20
"""Looks in one call. New processes may appear while we kill; each look that finds none new ends the call."""
LONE_SHIM_S = 5.0
"""How long a shim may need for its exit record after everything below it has died, before it is killed too."""


@dataclass(slots=True)
class _Container:
    """What is remembered of one container; all of it can be found again."""

    shim: ProcessID | None = None
    peak_mem_bytes: int = 0
    alone_since: float | None = None  # monotonic
    # By pid and start time; perhaps not dead yet.
    killed: dict[tuple[int, int], Process] = field(default_factory=dict)


class NoopIsolation(Isolation):
    """No limits; whole containers and marked tasks can be killed."""

    name = "noop"

    def __init__(self, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(work_dir, options)
        self._containers: dict[ContainerID, _Container] = {}
        self._prefix = process_table.mark_prefix(work_dir)

    @classmethod
    def available(cls) -> str:
        if not hasattr(os, "pidfd_open") or not Path("/proc/self/stat").exists():
            return "noop isolation needs Linux with /proc mounted; mount it with: mount -t proc proc /proc"
        return ""

    def prepare(self, spec: ContainerSpec, tell: Tell = tell_nobody) -> Launch:
        self._containers.setdefault(spec.container_id, _Container())
        return Launch(environment={CONTAINER_MARK: self._prefix + spec.container_id})

    def isolate(self, container_id: ContainerID, shim: ProcessID) -> None:
        self._containers.setdefault(container_id, _Container()).shim = shim

    def usage(self, container_id: ContainerID) -> Usage:
        container = self._containers.get(container_id)
        if container is None:
            return Usage()
        shim = self._living_shim(container)
        if shim is None:
            return Usage()
        tree = process_table.descendants(shim.pid)
        # The shim has waited for the executor, and for orphans: their time is counted with the shim's children.
        ticks = shim.reaped_cpu_ticks + sum(each.cpu_ticks + each.reaped_cpu_ticks for each in tree)
        mem_bytes = sum(each.rss_bytes for each in tree)
        container.peak_mem_bytes = max(container.peak_mem_bytes, mem_bytes)
        return Usage(ticks / process_table.CLOCK_TICKS_PER_S, mem_bytes, container.peak_mem_bytes, len(tree))

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """Kill what carries the task's mark, what is below it and in sessions it leads. False if nothing carries it: the
        executor does not mark its tasks' processes, or the task has ended."""
        killed = False
        for _ in range(KILL_ROUNDS):
            members = self._members(container_id)
            roots = {
                each.pid
                for each in members
                if process_table.variable(process_table.environment(each.pid), TASK_MARK) == task_id
            }
            targets = [each for each in members if each.pid in roots or each.session in roots]
            targets = process_table.with_descendants(targets, members)
            if not targets:
                break
            killed = True
            self._kill(container_id, targets)
        return killed

    def destroy(self, container_id: ContainerID) -> bool:
        """The executor first: its shim then writes the exit record and ends by itself, in `LONE_SHIM_S` at most."""
        container = self._containers.setdefault(container_id, _Container())
        for _ in range(KILL_ROUNDS):
            members = self._members(container_id)
            fresh = [each for each in members if (each.pid, each.start_ticks) not in container.killed]
            if not fresh:
                break
            self._kill(container_id, fresh)
            container.killed.update(((each.pid, each.start_ticks), each) for each in fresh)
        # One in the middle of its exit shows no environment any more, and could not be told to be a member.
        if members or any(_is_alive(each) for each in container.killed.values()):
            return False
        if (shim := self._living_shim(container)) is not None:
            now = time.monotonic()
            if container.alone_since is None:
                container.alone_since = now
            if now - container.alone_since > LONE_SHIM_S:
                self._kill(container_id, [shim])
            return False
        del self._containers[container_id]
        return True

    def recover(self, known: dict[ContainerID, ProcessID | None]) -> Iterable[ContainerID]:
        orphans = set()
        for container_id, shim in known.items():
            self._containers.setdefault(container_id, _Container()).shim = shim
        for process in process_table.processes():
            environ = process_table.environment(process.pid)
            mark = process_table.variable(environ, CONTAINER_MARK)
            if process.is_dead or mark is None or not mark.startswith(self._prefix):
                continue
            container_id = ContainerID(mark.removeprefix(self._prefix))
            if container_id not in known:
                orphans.add(container_id)
            if process_table.variable(environ, SHIM_MARK) == str(process.pid):
                self._adopt(container_id, process)
        return sorted(orphans)

    # -- who belongs to a container ---------------------------------------------------------------------------------

    def _living_shim(self, container: _Container) -> Process | None:
        found = procfs.find(container.shim) if container.shim is not None else None
        return None if found is None or found.is_dead else found

    def _adopt(self, container_id: ContainerID, shim: Process) -> None:
        identity = ProcessID(process_table.boot_id(), shim.pid, shim.start_ticks)
        self._containers.setdefault(container_id, _Container()).shim = identity

    def _members(self, container_id: ContainerID) -> list[Process]:
        """The living processes of a container, without its shim."""
        container = self._containers.get(container_id)
        shim = self._living_shim(container) if container is not None else None
        return process_table.descendants(shim.pid) if shim is not None else self._marked_members(container_id)

    def _marked_members(self, container_id: ContainerID) -> list[Process]:
        """The same by marks, for a container whose shim is gone or unknown (a shim that is found is adopted)."""
        mark = self._prefix + container_id
        everyone = [each for each in process_table.processes() if not each.is_dead]
        marked = []
        for each in everyone:
            environ = process_table.environment(each.pid)
            if process_table.variable(environ, CONTAINER_MARK) != mark:
                continue
            if process_table.variable(environ, SHIM_MARK) == str(each.pid):
                self._adopt(container_id, each)
                return process_table.descendants(each.pid)
            marked.append(each)
        if not marked:
            return []
        # A session outlives its leader, and its number is not given away before its last process has ended; so with a
        # marked process in it, it is the container's own.
        sessions = {each.session for each in marked}
        pids = {each.pid for each in marked}
        members = [each for each in everyone if each.pid in pids or each.session in sessions]
        return process_table.with_descendants(members, everyone)

    def _kill(self, container_id: ContainerID, targets: list[Process]) -> None:
        try:
            process_table.kill_all(targets)
        except PermissionError as error:
            raise IsolationError(
                f"container {container_id}: a process of another user is left ({error}); "
                "run the slave as root to end processes of other users"
            ) from None


def _is_alive(process: Process) -> bool:
    found = process_table.read(process.pid)
    return found is not None and found.start_ticks == process.start_ticks and not found.is_dead
