"""`CgroupsIsolation`: every executor and every task held to its limits by cgroup v2.

    ROOT/offerd.slice/                     all containers of this host
      HASH-CONTAINER/                      one container: memory and cpu of the executor and its tasks together
        executor/                          the shim and the executor; also its tasks, if it does not place them
        tasks/task-ID/                     one task with its own limits

HASH stands for the work directory, so that several slaves of one host find their own containers. Only leaves hold
processes, as no cgroup may have both processes and children with controllers. All of it can be found again after a restart.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from offerd.ids import ContainerID, TaskID
from offerd.resources import Resources
from offerd.tasks.task_cgroups import TASK_CGROUPS, leaf_name, task_of_leaf
from offerd_isolation.base import (
    DEFAULT_OPTIONS,
    NO_LABELS,
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
from offerd_isolation.cgroups import controllers, delegation, host, limits, oom, statistics, tree
from offerd_isolation.cgroups.container import Container, apply
from offerd_isolation.cgroups.notices import Notices
from offerd_isolation.cgroups.oom import Leaf, Tally
from offerd_isolation.marks import SHIM_MARK, TASK_MARK
from offerd_linux import process_ids, processes
from offerd_linux.process_ids import ProcessID

SLICE = "offerd.slice"
KILL_ALL_AFTER_S = 2.0
"""How long a shim may take to reap its executor and write the exit record, before it is killed with the rest."""
VERIFIED_AT_ONCE = 100
"""How many cgroups one call of `verify` checks."""


class CgroupsIsolation(Isolation):
    """See the module. Methods may be called from one thread; `task_usage` from any."""

    name = "cgroups"
    limits_containers = True
    limits_tasks = True

    def __init__(self, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS) -> None:
        super().__init__(work_dir, options)
        self._containers: dict[ContainerID, Container] = {}
        self._slice = ""
        self._notices: Notices | None = None
        self._verify_next = 0
        # Two slaves never share a work directory (it is locked), so its name and inode tell their containers apart.
        identity = f"{work_dir.resolve()}:{work_dir.stat().st_ino}"
        self._prefix = hashlib.sha256(identity.encode()).hexdigest()[:12] + "-"
        wanted = set(host.NEEDED)
        if options.io_weight or options.io_max:
            wanted.add("io")
        if options.cpuset:
            wanted.add("cpuset")
        self._controllers = frozenset(wanted)

    @classmethod
    def available(cls) -> str:
        try:
            host.find_root()
        except host.Unusable as reason:
            return str(reason)
        return ""

    # -- containers ---------------------------------------------------------------------------------------------------

    def prepare(self, spec: ContainerSpec, report: Report = report_to_nobody) -> Launch:
        self._take_host()
        container = self._containers.get(spec.container_id)
        if container is None:
            container = self._containers[spec.container_id] = self._known(spec.container_id)
        container.own = spec.executor.resources
        container.resources = spec.resources
        container.owner = delegation.owner(spec.user)
        tree.make(container.path)
        tree.enable(container.path, self._controllers - {"cpuset"})
        for leaf in (container.executor.path, f"{container.path}/tasks"):
            tree.make(leaf)
        tree.enable(f"{container.path}/tasks", self._controllers - {"cpuset"})
        container.limit_executor(self.options)
        container.limit_all(self.options)
        self._watch(container)
        return Launch({TASK_CGROUPS: f"{container.path}/tasks"}, Path(container.executor.path))

    def isolate(self, container_id: ContainerID, shim: ProcessID) -> None:
        if container_id in self._containers:
            self._containers[container_id].shim = shim

    def update(self, container_id: ContainerID, resources: Resources) -> None:
        container = self._containers.get(container_id)
        if container is not None and tree.is_there(container.path):
            container.resources = resources
            container.limit_executor(self.options)
            container.limit_all(self.options)

    def cleanup(self, container_id: ContainerID) -> bool:
        """Kill all but the shim. The shim then writes the exit record and ends by itself, within `KILL_ALL_AFTER_S`."""
        if not self._slice:
            self._find_host()
        container = self._containers.get(container_id) or self._known(container_id)
        if not tree.is_there(container.path):
            gone = self._cleanup_without_cgroup(container)
            if gone:
                self._containers.pop(container_id, None)
            return gone
        now = time.monotonic()
        self._containers.setdefault(container_id, container)
        if container.cleanup_since is None:
            container.cleanup_since = now
        shim = container.shim
        if now - container.cleanup_since > KILL_ALL_AFTER_S or shim is None or process_ids.find(shim) is None:
            tree.kill(container.path)
        else:
            container.kill_but_shim(shim)
        if tree.populated(container.path) or not tree.remove(container.path):
            return False
        self._containers.pop(container_id, None)
        return True

    def recover(self, known: dict[ContainerID, ProcessID | None]) -> Iterable[ContainerID]:
        self._take_host()
        paths = {
            ContainerID(os.path.basename(path).removeprefix(self._prefix)): path
            for path in tree.children(self._slice)
            if os.path.basename(path).startswith(self._prefix)
        }
        for container_id, shim in known.items():
            if container_id not in paths and (path := self._elsewhere(container_id, shim)):
                paths[container_id] = path
        for container_id, path in paths.items():
            container = self._known(container_id, path)
            container.all.limits = container.executor.limits = container.tasks_limits = None
            container.shim = known.get(container_id) or self._find_shim(container)
            for leaf in tree.children(f"{path}/tasks"):
                task_id = task_of_leaf(os.path.basename(leaf))
                if task_id is not None:
                    container.tasks[task_id] = Leaf(leaf, limits=None)
            self._containers[container_id] = container
            self._watch(container)
        for container_id, shim in known.items():
            # Another module made these before the slave was restarted with this one. They have no cgroup, but maybe a shim.
            if container_id not in paths:
                self._containers[container_id] = self._known(container_id)
                self._containers[container_id].shim = shim
        return sorted(paths.keys() - known.keys())

    def _elsewhere(self, container_id: ContainerID, shim: ProcessID | None) -> str:
        """The container's cgroup below another root: that of the scope or unit in which an earlier slave ran. Empty if none."""
        if shim is None or process_ids.find(shim) is None:
            return ""
        executor = host.cgroup_of(shim.pid)
        if executor is None or executor.parent.name != f"{self._prefix}{container_id}":
            return ""
        return str(executor.parent)

    def adopt(self, spec: ContainerSpec) -> None:
        container = self._containers[spec.container_id]
        container.own = spec.executor.resources
        container.owner = delegation.owner(spec.user)

    # -- tasks --------------------------------------------------------------------------------------------------------

    def prepare_task(
        self,
        container_id: ContainerID,
        task_id: TaskID,
        resources: Resources,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        container = self._containers.get(container_id)
        if container is None or not tree.is_there(container.path):
            return
        leaf = container.tasks.get(task_id)
        path = f"{container.path}/tasks/{leaf_name(task_id)}"
        is_new = tree.make(path)
        if leaf is None or is_new:
            leaf = container.tasks[task_id] = Leaf(path, limits.NEW_CGROUP if is_new else None)
        wanted = limits.of_task(resources, labels, self.options)
        apply(leaf, wanted)
        if is_new and container.owner is not None:
            delegation.give(path, container.owner)
        if self.options.cpu_quota or wanted.mem_bytes is None:
            container.limit_all(self.options)

    def cleanup_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        container = self._containers.get(container_id)
        leaf = container.tasks.get(task_id) if container is not None else None
        if container is None or leaf is None:
            return True
        if not tree.remove(leaf.path):
            tree.kill(leaf.path)
            if not tree.remove(leaf.path):
                return False
        del container.tasks[task_id]
        return True

    def tasks(self, container_id: ContainerID) -> Iterable[TaskID]:
        container = self._containers.get(container_id)
        return list(container.tasks) if container is not None else ()

    def kill_task(self, container_id: ContainerID, task_id: TaskID) -> bool:
        """Kill all that is in the task's cgroup; if its executor places nothing there, the processes with the task's mark."""
        container = self._containers.get(container_id)
        if container is None:
            return False
        leaf = container.tasks.get(task_id)
        if leaf is not None and tree.populated(leaf.path):
            tree.kill(leaf.path)
            return True
        members = tree.members(container.executor.path)
        roots = {
            each.pid
            for each in members
            if processes.variable(processes.environment(each.pid), TASK_MARK) == task_id
        }
        targets = [each for each in members if each.pid in roots or each.session in roots]
        processes.kill_all(processes.with_descendants(targets, members))
        return bool(targets) or leaf is not None

    # -- what is used, and what was hit -------------------------------------------------------------------------------

    def usage(self, container_id: ContainerID) -> Usage:
        container = self._containers.get(container_id)
        usage = statistics.usage(container.path) if container is not None else None
        if container is None or usage is None:
            return Usage()
        shims = 1 if container.shim is not None and process_ids.find(container.shim) is not None else 0
        return statistics.without_processes(usage, shims)

    def task_usage(self, container_id: ContainerID, task_id: TaskID) -> Usage | None:
        container = self._containers.get(container_id)
        leaf = container.tasks.get(task_id) if container is not None else None
        return statistics.usage(leaf.path) if leaf is not None else None

    def limitation(self, container_id: ContainerID, task_id: TaskID) -> Limitation | None:
        container = self._containers.get(container_id)
        return container.limitation(task_id) if container is not None else None

    def watch(self) -> Iterable[Limitation]:
        if self._notices is None:
            return ()
        found = []
        for container_id in self._notices.read():
            container = self._containers.get(ContainerID(container_id))
            # memory.events often changes because of reclaim: the tasks are only checked after kills.
            if container is not None and oom.new_kills(container.all) > 0:
                found += container.killed()
        return found

    def watch_fds(self) -> Iterable[int]:
        if self._notices is None:
            try:
                self._notices = Notices()
            except OSError as error:
                raise IsolationError(
                    f"cannot watch for memory that runs out: {error.strerror}; raise fs.inotify.max_user_instances"
                ) from None
            for container in self._containers.values():
                self._watch(container)
        return (self._notices.fd,)

    def unkillable(self, container_id: ContainerID, task_id: TaskID = TaskID("")) -> str:
        container = self._containers.get(container_id)
        if container is None:
            return ""
        path = container.path
        if task_id:
            leaf = container.tasks.get(task_id)
            if leaf is None:
                return ""
            path = leaf.path
        return statistics.describe(tree.members(path))

    def verify(self) -> Iterable[str]:
        """Checks a part of all cgroups each time. A lowered limit that had to wait is lowered as far as is safe now."""
        complaints: list[str] = []
        known = list(self._containers.values())
        cgroups: list[tuple[Container, Leaf | Tally]] = []
        for container in known:
            if container.cleanup_since is None:
                leaves: list[Leaf | Tally] = [container.all, container.executor, *container.tasks.values()]
                cgroups += [(container, leaf) for leaf in leaves]
        begin = self._verify_next if self._verify_next < len(cgroups) else 0
        self._verify_next = begin + VERIFIED_AT_ONCE
        for container, leaf in cgroups[begin : begin + VERIFIED_AT_ONCE]:
            if leaf is container.all and tree.is_there(container.path):
                container.limit_all(self.options)
            if leaf.limits is not None:
                complaints += container.mend(leaf, leaf.limits, self._controllers)
        return complaints

    def remarks(self) -> Iterable[str]:
        return controllers.lacking(self._slice, self._controllers) if self._slice else ()

    def close(self) -> None:
        """Also removes the slice, if no slave has anything in it."""
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        if self._slice:
            tree.remove_empty(self._slice)

    # -- the host -----------------------------------------------------------------------------------------------------

    def _take_host(self) -> None:
        """Make `offerd.slice`, once."""
        if self._slice and tree.is_there(self._slice):
            return
        root = self._find_host()
        host.take(root, self._controllers)
        tree.make(self._slice)
        # The weight against everything else on the host: 100 for each of its cpus, as containers have.
        controllers.Cpu(self._slice).weight = limits.weight(1000 * (os.cpu_count() or 1))
        tree.enable(self._slice, self._controllers)

    def _find_host(self) -> host.Root:
        try:
            root = host.find_root()
        except host.Unusable as reason:
            raise IsolationError(str(reason)) from None
        self._slice = f"{root.path}/{SLICE}"
        return root

    def _known(self, container_id: ContainerID, path: str = "") -> Container:
        return Container.at(container_id, path or f"{self._slice}/{self._prefix}{container_id}")

    def _find_shim(self, container: Container) -> ProcessID | None:
        """Find the shim by its mark in the environment."""
        for process in tree.members(container.executor.path):
            environ = processes.environment(process.pid)
            if processes.variable(environ, SHIM_MARK) == str(process.pid):
                return ProcessID(processes.boot_id(), process.pid, process.start_ticks)
        return None

    def _watch(self, container: Container) -> None:
        """Watch the container for kills. Without that, the slave only finds a kill when it checks a task that has failed."""
        if self._notices is not None and tree.is_there(container.path):
            try:
                self._notices.watch(f"{container.path}/memory.events", container.container_id)
            except FileNotFoundError:
                return  # this kernel has no such file, or the container was removed meanwhile
            except OSError as error:
                raise IsolationError(
                    f"cannot watch for memory that runs out: {error.strerror}; raise fs.inotify.max_user_watches"
                ) from None

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _cleanup_without_cgroup(self, container: Container) -> bool:
        """End a container that another module made: first what is below its shim, then the shim."""
        shim = process_ids.find(container.shim) if container.shim is not None else None
        if shim is None or shim.is_dead:
            return True
        processes.kill_all(processes.descendants(shim.pid) or [shim])
        return False
