"""Isolation without limits: plain process trees, tracked and ended as a whole. Works without root, for development. Memory
is checked now and then, and a task that uses too much is ended.

The processes of a container are found in two ways:

- While its shim lives, they are exactly the shim's descendants. The shim is a subreaper, so a process that calls setsid,
  forks twice or clears its environment stays below it.
- When the shim is gone (killed, or ended after it had killed the rest), they are the processes that carry the mark which
  `prepare` put into the environment, and their descendants, if they belong to the container's user. A process that clears
  its environment and loses its parents, its shim and the zygote (which kills what it inherits) escapes. Cgroups close that
  gap; so would `cgroup.kill` on a host with a writable cgroup v2 mount without controllers, which is not used here.

A shim is known by the file that it writes into its container's directory, never by a process's own environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from offerd.ids import ContainerID, TaskID
from offerd_isolation import marks, memory
from offerd_isolation.base import (
    DEFAULT_OPTIONS,
    ContainerSpec,
    Isolation,
    IsolationError,
    IsolationOptions,
    Launch,
    Limitation,
    Report,
    Usage,
    report_to_nobody,
)
from offerd_isolation.marks import CONTAINER_MARK, TASK_MARK
from offerd_isolation.memory import TaskMarks
from offerd_linux import process_ids, processes
from offerd_linux.process_ids import ProcessID
from offerd_linux.processes import Process, TooManyProcesses

TURN_S = 0.05
"""New processes may appear during the killing. A call ends when a look finds none, or after this time, as other calls wait."""
MOST_LOOKED_AT = 4000
"""Processes in one look, zombies included: it takes about 60 ms."""
LONE_SHIM_S = 5.0
"""How long a shim may take for its exit record after everything below it has died, before it is killed too."""


@dataclass(slots=True)
class _Container:
    """What is known of one container; all of it can be found again after a restart."""

    shim: ProcessID | None = None
    peak_mem_bytes: int = 0
    alone_since: float | None = None  # monotonic
    # Keys are pid and start time. The processes may not be dead yet.
    killed: dict[tuple[int, int], Process] = field(default_factory=dict)
    marks: TaskMarks = field(default_factory=TaskMarks)


class NoopIsolation(Isolation):
    """No limits; whole containers and marked tasks can be killed."""

    name = "noop"
    memory_note = "memory is watched, not limited (isolation noop)"

    def __init__(self, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(work_dir, options)
        self._containers: dict[ContainerID, _Container] = {}
        self._prefix = marks.mark_prefix(work_dir)

    @classmethod
    def available(cls) -> str:
        if not hasattr(os, "pidfd_open") or not Path("/proc/self/stat").exists():
            return "noop isolation needs Linux with /proc mounted; mount it with: mount -t proc proc /proc"
        return ""

    def prepare(self, spec: ContainerSpec, report: Report = report_to_nobody) -> Launch:
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
        try:
            tree = processes.descendants(shim.pid, MOST_LOOKED_AT)
        except TooManyProcesses:
            return Usage(peak_mem_bytes=container.peak_mem_bytes, processes=MOST_LOOKED_AT)
        # The shim reaps the executor and orphans, so their cpu time is in that of the shim's reaped children.
        ticks = shim.reaped_cpu_ticks + sum(each.cpu_ticks + each.reaped_cpu_ticks for each in tree)
        mem_bytes = sum(each.rss_bytes for each in tree)
        container.peak_mem_bytes = max(container.peak_mem_bytes, mem_bytes)
        return Usage(ticks / processes.CLOCK_TICKS_PER_S, mem_bytes, container.peak_mem_bytes, len(tree))

    def over_memory(
        self, container_id: ContainerID, whole_bytes: int | None, tasks: Mapping[TaskID, int]
    ) -> Iterable[Limitation]:
        container = self._containers.get(container_id)
        shim = self._living_shim(container) if container is not None else None
        if container is None or shim is None:
            return ()
        try:
            tree = processes.descendants(shim.pid, MOST_LOOKED_AT)
        except TooManyProcesses:
            return ()
        found = []
        for task_id, members in container.marks.divide(tree).items():
            most_bytes = tasks.get(task_id, 0)
            if most_bytes and (held := memory.over(members, most_bytes)):
                found.append(_over_memory(container_id, task_id, held, most_bytes))
        if not found and whole_bytes is not None and (held := memory.over(tree, whole_bytes)):
            found.append(_over_memory(container_id, TaskID(""), held, whole_bytes))
        return found

    def remarks(self) -> Iterable[str]:
        return (
            "memory is watched, not limited: a task that uses too much is ended some seconds later; "
            "cpus and processes are not limited",
        )

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """Kill the processes that carry the task's mark, their descendants, and the sessions that they lead. False if no
        process carries it: the executor does not mark its tasks' processes, or the task has ended."""
        give_up_at = time.monotonic() + TURN_S
        killed = False
        while True:
            try:
                members = self._members(container_id)
            except TooManyProcesses:
                return False  # its executor reaps none of them: they all end together with it
            roots = {
                each.pid
                for each in members
                if processes.variable(processes.environment(each.pid), TASK_MARK) == task_id
            }
            targets = [each for each in members if each.pid in roots or each.session in roots]
            targets = processes.with_descendants(targets, members)
            if not targets:
                return killed
            killed = True
            hit = {each.pid for each in targets}
            spared = {each.session for each in members if each.pid not in hit}
            self._kill(container_id, targets, spared)
            if time.monotonic() > give_up_at:
                return True

    def cleanup(self, container_id: ContainerID) -> bool:
        """Kill all but the shim. The shim then writes the exit record and ends by itself, within `LONE_SHIM_S`."""
        container = self._containers.setdefault(container_id, _Container())
        give_up_at = time.monotonic() + TURN_S
        shim = self._shim(container_id)
        spared = set() if shim is None else {shim.session}
        while True:
            try:
                members = self._members(container_id)
            except TooManyProcesses:
                self._kill_executor(container_id, shim)
                return False
            fresh = [each for each in members if (each.pid, each.start_ticks) not in container.killed]
            if not fresh:
                break
            self._kill(container_id, fresh, spared if shim is not None else None)
            container.killed.update(((each.pid, each.start_ticks), each) for each in fresh)
            if time.monotonic() > give_up_at:
                container.killed = {key: each for key, each in container.killed.items() if _is_alive(each)}
                return False
        # A process in the middle of its exit has no environment any more, so `members` may lack it.
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
        """Find shims by their files in the containers' directories, which tasks cannot write. Any process could put the mark
        of a shim into its own environment."""
        for container_id, shim in known.items():
            self._containers.setdefault(container_id, _Container()).shim = shim
        orphans = []
        for directory in sorted((self.work_dir / "containers").glob("*")):
            container_id = ContainerID(directory.name)
            container = self._containers.get(container_id)
            if container is not None and self._living_shim(container) is not None:
                continue
            shim = marks.recorded_shim(directory)
            if shim is None or (found := process_ids.find(shim)) is None or found.is_dead:
                continue
            self._containers.setdefault(container_id, _Container()).shim = shim
            if container_id not in known:
                orphans.append(container_id)
        return orphans

    # -- the processes of a container -------------------------------------------------------------------------------

    def _living_shim(self, container: _Container) -> Process | None:
        found = process_ids.find(container.shim) if container.shim is not None else None
        return None if found is None or found.is_dead else found

    def _members(self, container_id: ContainerID) -> list[Process]:
        """The living processes of a container, without its shim. Raises `TooManyProcesses`."""
        shim = self._shim(container_id)
        if shim is None:
            return self._marked_members(container_id)
        return processes.descendants(shim.pid, MOST_LOOKED_AT)

    def _shim(self, container_id: ContainerID) -> Process | None:
        """The shim given to `isolate`, or recorded by itself in the container's directory; None if it is dead."""
        container = self._containers.setdefault(container_id, _Container())
        if container.shim is None:
            container.shim = marks.recorded_shim(self.work_dir / "containers" / container_id)
        return self._living_shim(container)

    def _marked_members(self, container_id: ContainerID) -> list[Process]:
        """The processes that a dead shim has left: those that carry the container's mark and can belong to its user. A
        foreign process that carries the mark belongs to another user, or harms only its own user."""
        if (uid := self._uid(container_id)) is None:
            return []
        mark = self._prefix + container_id
        everyone = [each for each in processes.everyone() if not each.is_dead]
        marked = [
            each
            for each in everyone
            if processes.variable(processes.environment(each.pid), CONTAINER_MARK) == mark
            and _could_be(each, uid)
        ]
        return [each for each in processes.with_descendants(marked, everyone) if _could_be(each, uid)]

    def _uid(self, container_id: ContainerID) -> int | None:
        """The user of the container's processes, who owns its sandbox. None if the sandbox is gone."""
        try:
            return os.lstat(self.work_dir / "containers" / container_id / "sandbox").st_uid
        except OSError:
            return None

    def _kill_executor(self, container_id: ContainerID, shim: Process | None) -> None:
        """Kill only the shim's own children, if there are too many processes below: the shim reaps them, and soon there are
        fewer."""
        if shim is not None:
            found = [processes.read(pid) for pid in processes.children(shim.pid)[:MOST_LOOKED_AT]]
            self._kill(container_id, [each for each in found if each is not None and not each.is_dead])

    def _kill(
        self, container_id: ContainerID, targets: list[Process], spared_sessions: set[int] | None = None
    ) -> None:
        """Kill these and their process groups, except groups in `spared_sessions`. If that is None, kill no groups."""
        try:
            if spared_sessions is not None:
                processes.kill_groups(targets, spared_sessions)
            processes.kill_all(targets)
        except PermissionError as error:
            raise IsolationError(
                f"container {container_id}: a process of another user is left ({error}); "
                "run the slave as root to end processes of other users"
            ) from None


def _over_memory(container_id: ContainerID, task_id: TaskID, held: int, most_bytes: int) -> Limitation:
    who = "it" if task_id else "the executor and its tasks"
    has, may = f"{held / (1 << 20):.1f}M", f"{most_bytes / (1 << 20):.10g}M"
    text = (
        f"{who} had {has} of memory when looked at, more than the {may} that {'it' if task_id else 'they'} may have; "
        "memory is watched here, not limited, so it may have been more before"
    )
    return Limitation(
        container_id, f"mem={most_bytes}", text, task_id, Usage(mem_bytes=held, peak_mem_bytes=held)
    )


def _could_be(process: Process, uid: int) -> bool:
    """Whether a process of this user can be this one now. Root's processes may become any user's; others keep their user, as
    executors run with no_new_privs."""
    return uid == 0 or processes.uids(process.pid) == (uid, uid, uid)


def _is_alive(process: Process) -> bool:
    found = processes.read(process.pid)
    return found is not None and found.start_ticks == process.start_ticks and not found.is_dead
