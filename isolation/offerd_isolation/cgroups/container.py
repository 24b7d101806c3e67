"""One container of the cgroups module: its cgroups, their limits, and which of its tasks were killed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from offerd.ids import ContainerID, TaskID
from offerd.resources import NOTHING, Resources
from offerd_isolation.base import IsolationOptions, Limitation, Usage
from offerd_isolation.cgroups import controllers, limits, oom, statistics, tree
from offerd_isolation.cgroups.controllers import FileMissing
from offerd_isolation.cgroups.memory_held import as_far_as_safe
from offerd_isolation.cgroups.oom import Leaf, Tally
from offerd_linux import processes
from offerd_linux.process_ids import ProcessID


@dataclass(slots=True)
class Container:
    """After a restart of the slave all but the limits is found again on the host."""

    container_id: ContainerID
    path: str
    all: Tally
    executor: Leaf
    own: Resources = NOTHING  # the executor's
    resources: Resources = NOTHING  # with its tasks'
    tasks: dict[TaskID, Leaf] = field(default_factory=dict)
    tasks_limits: limits.Limits | None = limits.NEW_CGROUP  # of the node above the tasks' leaves
    shim: ProcessID | None = None
    owner: tuple[int, int] | None = None  # uid and gid that its tasks' cgroups are delegated to
    cleanup_since: float | None = None  # monotonic

    @classmethod
    def at(cls, container_id: ContainerID, path: str) -> Container:
        """A container with this directory, which may exist or not."""
        return cls(container_id, path, Tally(path), Leaf(f"{path}/executor"))

    # -- limits -------------------------------------------------------------------------------------------------------

    def limit_executor(self, options: IsolationOptions) -> None:
        """Set the limits of the executor's leaf and of the cgroup above its tasks."""
        apply(self.executor, limits.of_executor(self.own, options))
        wanted = limits.of_tasks(self.resources)
        if wanted != self.tasks_limits:
            controllers.Cpu(f"{self.path}/tasks").weight = wanted.cpu_weight
            self.tasks_limits = wanted

    def limit_all(self, options: IsolationOptions) -> None:
        """Set the limits of the container as a whole, as far as that kills nothing; `verify` does the rest, step by step."""
        wanted = limits.of_container(
            self.resources, options, places_tasks=bool(self.tasks), unlimited=self._is_unlimited()
        )
        if wanted != self.all.limits:
            apply(self.all, as_far_as_safe(controllers.Memory(self.path), wanted, self.all.limits))

    def _is_unlimited(self) -> bool:
        """Whether one of its tasks has declared no memory."""
        return any(leaf.limits is not None and leaf.limits.mem_bytes is None for leaf in self.tasks.values())

    def mend(self, leaf: Leaf | Tally, wanted: limits.Limits, enabled: frozenset[str]) -> list[str]:
        """Set again what somebody else has changed; returns a sentence for each. If a file is missing, one of the `enabled`
        controllers was switched off, or the whole cgroup was removed."""
        slice_ = os.path.dirname(self.path)
        what = f"{os.path.relpath(leaf.path, slice_)}"
        try:
            return [f"{what}: {each}" for each in controllers.mend(leaf.path, wanted)]
        except FileMissing as error:
            if not tree.is_there(self.path):
                return []
            for path in (os.path.dirname(slice_), slice_):
                tree.enable(path, enabled)
            for path in (self.path, f"{self.path}/tasks"):
                tree.enable(path, enabled - {"cpuset"})
            tree.make(leaf.path)
            controllers.apply(leaf.path, wanted)
            return [f"{what}: {error}; made and set again"]

    # -- ends ---------------------------------------------------------------------------------------------------------

    def kill_but_shim(self, shim: ProcessID) -> None:
        """Kill all but the shim, which then reaps its executor and writes the exit record."""
        tree.kill(f"{self.path}/tasks")
        signalled: set[tuple[int, int]] = set()
        for _ in range(tree.KILL_ROUNDS):
            members = [each for each in tree.members(self.executor.path) if each.pid != shim.pid]
            fresh = [each for each in members if (each.pid, each.start_ticks) not in signalled]
            if not fresh:
                return
            processes.kill_all(fresh)
            signalled.update((each.pid, each.start_ticks) for each in fresh)

    # -- what was hit -------------------------------------------------------------------------------------------------

    def killed(self) -> list[Limitation]:
        """The tasks (or the executor) of which the kernel has killed processes for memory since the last call."""
        found = []
        for task_id, leaf in list(self.tasks.items()):
            if oom.new_kills(leaf) > 0:
                usage = statistics.usage(leaf.path) or Usage()
                found.append(oom.limitation(self.container_id, task_id, leaf, self.all, usage))
        if (killed := oom.new_kills(self.executor)) > 0:
            self.executor.kills_unreported += killed
            usage = statistics.usage(self.executor.path) or Usage()
            found.append(oom.limitation(self.container_id, TaskID(""), self.executor, self.all, usage))
        return found

    def limitation(self, task_id: TaskID) -> Limitation | None:
        """The limit that a task had hit, which has just failed; None if it hit none."""
        leaf = self.tasks.get(task_id)
        usage = (statistics.usage(leaf.path) if leaf is not None else None) or Usage()
        if leaf is not None and (oom.new_kills(leaf) or leaf.kills_seen):
            return oom.limitation(self.container_id, task_id, leaf, self.all, usage)
        if leaf is None or usage.cpu_s == usage.peak_mem_bytes == 0:  # no process was ever placed in it
            executor = self.executor
            executor.kills_unreported += oom.new_kills(executor)
            if executor.kills_unreported <= 0:
                return None
            executor.kills_unreported -= 1
            usage = statistics.usage(executor.path) or Usage()
            hit = oom.limitation(self.container_id, task_id, executor, self.all, usage)
            return replace(hit, fatal=True)  # the kill was this task's
        return oom.pids_limitation(self.container_id, task_id, leaf, usage)


def apply(leaf: Leaf | Tally, wanted: limits.Limits) -> None:
    """Write the limits that differ from those written last."""
    if wanted != leaf.limits:
        controllers.apply(leaf.path, wanted, leaf.limits)
        leaf.limits = wanted
