"""`DockerIsolation`: executors in containers of a Docker engine.

The engine makes the container: image, mounts, namespaces, cgroups, limits. It starts only `pause` there. The executor is
forked by its shim, as with other modules, and enters the container before it drops its rights. So an image needs nothing
special, the shim writes logs and exit records, and running tasks do not need the engine: it may restart (with live-restore),
hang or be killed. docs/decisions/0019 says what else was tried.

A label names the slave of a container. Its processes are found by the mark of the module `noop`, which this one extends.
"""

from __future__ import annotations

import logging
import os
import platform
import pwd
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offerd.ids import ContainerID, TaskID
from offerd.resources import NOTHING, Resources
from offerd.values.screen_text import printable
from offerd_isolation import mounts
from offerd_isolation.base import (
    DEFAULT_OPTIONS,
    ContainerSpec,
    Enter,
    Isolation,
    IsolationError,
    IsolationOptions,
    Launch,
    Limitation,
    Report,
    Usage,
    report_to_nobody,
)
from offerd_isolation.cgroups import limits, oom
from offerd_isolation.docker import configuration, pause
from offerd_isolation.docker.configuration import LABEL, PAUSE_MARK, Bind
from offerd_isolation.docker.engine import (
    QUICK_TIMEOUT_S,
    Conflict,
    Engine,
    EngineError,
    NotFound,
    Unreachable,
)
from offerd_isolation.docker.group import Group
from offerd_isolation.docker.images import obtain
from offerd_isolation.docker.kills import Kills
from offerd_isolation.docker.references import is_allowed
from offerd_isolation.docker.running import Running
from offerd_isolation.marks import CONTAINER_MARK
from offerd_isolation.noop import NoopIsolation
from offerd_linux import process_ids, processes
from offerd_linux.process_ids import ProcessID
from offerd_linux.processes import Process

SWEEP_S = 30.0
CREATED_AT_ONCE = 4
"""Containers created at once. With more, calls would wait so long in the engine that they time out."""
EXEC_S = 2.0
"""How long the first process of a started container may take to execute the pause program."""

log = logging.getLogger("offerd.slave")


class DockerIsolation(NoopIsolation):
    """See the module. `prepare` may be called by several threads, `update` and `why_failed` in the slave's loop; the others by
    one thread, which may wait for the engine."""

    name = "docker"
    blocking = True
    limits_containers = True
    runs_images = True
    # The engine's containers have limits, so memory need not be watched as `noop` does.
    memory_note = Isolation.memory_note
    over_memory = Isolation.over_memory
    remarks = Isolation.remarks

    def __init__(
        self, work_dir: Path, options: IsolationOptions = DEFAULT_OPTIONS, engine: Engine | None = None
    ) -> None:
        super().__init__(work_dir, options)
        self._engine = engine or Engine(options.engine_timeout_s)
        self._running: dict[ContainerID, Running] = {}
        self._early: dict[ContainerID, Resources] = {}  # resources of containers that are being made
        self._lock = threading.Lock()  # guards `_early`, and the move of a container from there to `_running`
        self._program_lock = threading.Lock()
        self._creating = threading.Semaphore(CREATED_AT_ONCE)
        self._cancelled: set[ContainerID] = set()
        self._unremoved: set[str] = set()  # names of containers that the engine did not remove yet
        self._sweep_at = 0.0
        self._has_complained = False
        self._sandboxes: dict[ContainerID, Path] = {}  # those that this process has mounted

    @classmethod
    def available(cls) -> str:
        if missing := super().available():
            return missing
        if platform.machine() not in pause.PROGRAMS:
            return (
                f"the module docker is for {', '.join(pause.PROGRAMS)}, and this host is {platform.machine()}"
            )
        if os.geteuid() != 0:
            return "entering containers needs root; run the slave as root"
        try:
            Engine().ping()
        except EngineError as error:
            return f"{error}; start it, or name another in DOCKER_HOST"
        return ""

    @classmethod
    def can_resume(cls, work_dir: Path) -> bool:
        return (work_dir / "docker" / "pause").exists()

    # -- containers -----------------------------------------------------------------------------------------------------

    def prepare(self, spec: ContainerSpec, report: Report = report_to_nobody) -> Launch:
        name = spec.executor.image or self.options.image
        if not name:
            raise IsolationError(
                "this slave runs tasks in containers, and no image is named; "
                "use `offerd run --image IMG`, or start the slave with --image"
            )
        self._check_image(name)
        with self._lock:
            self._early.setdefault(spec.container_id, spec.resources)
        program = self._program()
        launch = super().prepare(spec)
        self._guard(spec)
        policy = spec.executor.pull or self.options.pull
        image = obtain(self._engine, name, policy, report, lambda: spec.container_id in self._cancelled)
        if spec.container_id in self._cancelled:
            raise IsolationError(f"container {spec.container_id}: cancelled before it was made")
        running = self._running.get(spec.container_id)
        if running is None or running.is_gone():
            with self._creating:
                running = self._started(spec, self._configuration(spec, image.digest, program))
        with self._lock:
            resources = self._early.pop(spec.container_id)
            self._running[spec.container_id] = running
            running.want(limits.of_docker_container(resources, self.options))
        chosen = spec.executor.command.environment if spec.executor.command is not None else {}
        environment = {key: value for key, value in image.environment.items() if key not in chosen}
        return Launch(
            environment | launch.environment | {"OFFERD_IMAGE": name},
            enter=Enter(running.pause, tuple(running.group.directories)),
        )

    def _check_image(self, name: str) -> None:
        """Raise `IsolationError` unless the slave's operator allows this image: it is foreign code."""
        if is_allowed(name, self.options.image, self.options.images):
            return
        allowed = [each for each in (self.options.image, *self.options.images) if each]
        those = f" allows {', '.join(allowed)}" if allowed else " allows none"
        raise IsolationError(
            f"image {printable(name)} is not allowed on this slave, which{those}; its option --images says which are"
        )

    def _guard(self, spec: ContainerSpec) -> None:
        """Make setuid files in the sandbox harmless for users of the host."""
        try:
            mounts.make_harmless(spec.sandbox)
            self._sandboxes[spec.container_id] = spec.sandbox
        except OSError as error:
            if _is_root(spec.user):
                raise IsolationError(f"{error.strerror}; without that no task may run as root here") from None
            if not self._has_complained:
                self._has_complained = True
                log.warning(
                    "%s; only directory permissions keep other users from setuid files of tasks",
                    error.strerror,
                )

    def cancel(self, container_id: ContainerID) -> None:
        self._cancelled.add(container_id)

    def _program(self) -> Path:
        directory = self.work_dir / "docker"
        try:
            with self._program_lock:
                return pause.install(directory)
        except OSError as error:
            raise IsolationError(f"cannot write the pause program in {directory}: {error.strerror}") from None

    def _configuration(self, spec: ContainerSpec, image: str, program: Path) -> dict[str, Any]:
        binds = [
            Bind(program, pause.PATH_INSIDE, readonly=True),
            Bind(spec.sandbox, str(spec.sandbox), readonly=False),
        ]
        for directory in (self.work_dir / "sockets" / spec.container_id, spec.data_dir):
            if directory is not None and directory.is_dir():
                binds.append(Bind(directory, str(directory), readonly=True))
        wanted = limits.of_docker_container(spec.resources, self.options)
        return configuration.of_container(spec, image, self._prefix, wanted, binds, self.options.network)

    def _started(self, spec: ContainerSpec, to_create: dict[str, Any]) -> Running:
        """Create the container and start it. If it exists already, from an interrupted `prepare`, only start it."""
        name = self._name(spec.container_id)

        def work(api: Any) -> dict[str, Any]:
            import docker.errors

            try:
                api.create_container_from_config(to_create, name)
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
            api.start(name)
            found: dict[str, Any] = api.inspect_container(name)
            return found

        what = f"container {spec.container_id}"
        found = self._engine.call(what, work)
        deadline = time.monotonic() + EXEC_S
        while (made := self._adopt_pause(spec.container_id, int(found["State"]["Pid"]))) is None:
            # The engine answers a moment before the new process executes the pause program.
            if time.monotonic() > deadline:
                raise IsolationError(
                    f"{what}: process {found['State']['Pid']} of the engine at {self._engine.address} is "
                    "another one here: the engine is not in this slave's pid namespace; run both in the same one"
                )
            time.sleep(0.01)
            found = self._engine.call(what, lambda api: api.inspect_container(name))
            if not found["State"]["Running"]:
                raise IsolationError(f"{what} ended at once: {found['State']['Error']}")
        made.begin(limits.of_docker_container(spec.resources, self.options))
        return made

    def _adopt_pause(self, container_id: ContainerID, pid: int) -> Running | None:
        """The container whose pause process has this pid; None if the pid is another process here than in the engine."""
        identity = process_ids.identify(pid) if pid else None
        environ = processes.environment(pid)
        if (
            identity is None
            or processes.variable(environ, CONTAINER_MARK) != self._prefix + container_id
            or processes.variable(environ, PAUSE_MARK) is None
            or not pause.is_of_a_container(pid, self.work_dir / "docker")
        ):
            return None
        try:
            group = Group.of(pid)
        except OSError:
            return None
        return Running(identity, group, Kills(group, self.work_dir / "containers" / container_id))

    def update(self, container_id: ContainerID, resources: Resources) -> None:
        """Write the limits to the cgroup, without a call to the engine: the task that needs them starts next."""
        with self._lock:
            if container_id in self._early:
                self._early[container_id] = resources
                return
        if (running := self._running.get(container_id)) is not None:
            # No resources would mean no memory limit: while there is no task, the last limit is kept for the next one.
            wanted = limits.of_docker_container(resources, self.options)
            running.want(wanted, keep_memory=resources == NOTHING)

    def cleanup(self, container_id: ContainerID) -> bool:
        """Kill the container's pid 1: then the kernel ends everything in it, even if the engine does not answer. The shim
        writes the exit record."""
        running = self._running.get(container_id)
        if running is not None:
            process_ids.send(running.pause)
        if not super().cleanup(container_id):
            return False
        mounts.release(self._sandboxes.pop(container_id, self._usual_sandbox(container_id)))
        self._running.pop(container_id, None)
        self._early.pop(container_id, None)
        self._cancelled.discard(container_id)
        try:
            self._remove(self._name(container_id))
        except Unreachable as error:
            # Nothing of it runs any more. It is removed from the engine when that answers again.
            log.warning("%s", error)
            self._unremoved.add(self._name(container_id))
        return True

    def recover(self, known: dict[ContainerID, ProcessID | None]) -> Iterable[ContainerID]:
        """Find containers by their processes first, which also works while the engine does not answer; then by their label in
        the engine."""
        if self.options.network == "host":
            log.warning(
                "containers share the host's network: their tasks can reach every service on this host's loopback"
            )
        for process in processes.everyone():
            environ = processes.environment(process.pid)
            mark = processes.variable(environ, CONTAINER_MARK) or ""
            if not mark.startswith(self._prefix) or processes.variable(environ, PAUSE_MARK) is None:
                continue
            container_id = ContainerID(mark.removeprefix(self._prefix))
            if (found := self._adopt_pause(container_id, process.pid)) is not None:
                self._running[container_id] = found
        orphans = {*super().recover(known), *(set(self._running) - set(known))}
        try:
            orphans |= {each for each in self._labelled() if each not in known}
        except EngineError as error:
            log.warning("left-over containers are looked for later: %s", error)
        return sorted(orphans)

    def verify(self) -> Iterable[str]:
        """Also does what had to wait: lowers limits, sends them to the engine, removes containers."""
        complaints = []
        for container_id, running in list(self._running.items()):
            try:
                running.kills.keep()
                if complaint := running.correct():
                    complaints.append(f"container {container_id}: {complaint}")
            except IsolationError as error:
                log.warning("%s", error)
        try:
            for container_id, running in list(self._running.items()):
                self._send_to_engine(container_id, running)
            self._sweep()
        except EngineError as error:
            log.warning("%s", error)
        return complaints

    def _send_to_engine(self, container_id: ContainerID, running: Running) -> None:
        """Send the engine limits that have not changed for a while. Raises `Unreachable`."""
        if (limits_due := running.due_for_engine()) is None:
            return
        name = self._name(container_id)
        try:
            self._engine.call(
                f"container {container_id}",
                lambda api: api.update_container(name, **configuration.of_update(limits_due)),
                QUICK_TIMEOUT_S,
            )
        except Unreachable:
            raise
        except EngineError as error:
            log.warning("%s", error)  # not repeated: the next change is sent again
        finally:
            running.write_again()
        running.known_to_engine = limits_due

    def _sweep(self) -> None:
        """Remove, now and then, this slave's containers that the engine still has but should not."""
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        for name in list(self._unremoved):
            self._remove(name)
            self._unremoved.discard(name)
        for container_id in self._labelled():
            if container_id not in self._containers:
                self._remove(self._name(container_id))

    def _labelled(self) -> list[ContainerID]:
        """All containers of this slave that the engine has, whatever their state."""
        filters = {"label": [f"{LABEL}slave={self._prefix.rstrip('/')}"]}
        # A short time-out: kills wait behind this call, in the module's only thread.
        found = self._engine.call(
            "list of containers", lambda api: api.containers(all=True, filters=filters), QUICK_TIMEOUT_S
        )
        return [ContainerID(each["Labels"][f"{LABEL}container"]) for each in found]

    def _remove(self, name: str) -> None:
        try:
            self._engine.call(
                name, lambda api: api.remove_container(name, v=True, force=True), QUICK_TIMEOUT_S
            )
        except (NotFound, Conflict):
            pass  # gone, or being removed
        except Unreachable:
            raise
        except EngineError as error:
            log.warning("%s", error)
            self._unremoved.add(name)

    # -- what is used, and what was hit -----------------------------------------------------------------------------------

    def usage(self, container_id: ContainerID) -> Usage:
        running = self._running.get(container_id)
        return running.group.usage() if running is not None else Usage()

    def disk_places(self, container_id: ContainerID) -> Iterable[str]:
        """The upper layer of its root as mounted, which holds all that is not the image's."""
        running = self._running.get(container_id)
        return mounts.upper_layers(running.pause.pid) if running is not None else ()

    def why_failed(
        self, container_id: ContainerID, task_id: TaskID, exit_status: int | None
    ) -> Limitation | None:
        """From the kernel's counts, which need no engine, together with the exit status: a kill is only reported for a task
        that ended by SIGKILL."""
        if (running := self._running.get(container_id)) is None:
            return None
        by = running.kills.take(exit_status)
        if by is not None:
            reached = None
            if by == "limit":
                needed = "the tasks of its container needed more than the {size} of memory they have"
                reached = oom.Reached(running.group.mem_limit(), needed)
            return oom.killed(container_id, task_id, reached, running.group.usage())
        # Reported once, for the first task that ends afterwards, not for all later ones.
        most = limits.pids_of_docker_container(self.options)
        if task_id and running.kills.take_refused() and most is not None:
            return oom.refused(container_id, task_id, "its container", most, Usage())
        return None

    def unkillable(self, container_id: ContainerID, task_id: TaskID = TaskID("")) -> str:
        try:
            return ", ".join(str(each.pid) for each in self._members(container_id))
        except processes.TooManyProcesses:
            return "thousands of processes"

    # -- the processes of a container -------------------------------------------------------------------------------------

    def _usual_sandbox(self, container_id: ContainerID) -> Path:
        return self.work_dir / "containers" / container_id / "sandbox"

    def _name(self, container_id: ContainerID) -> str:
        return f"offerd-{self._prefix[:12]}-{container_id}"

    def _members(self, container_id: ContainerID) -> list[Process]:
        """The processes in its cgroup or below its shim, without the pause process. (The parent of a container's orphans is its
        pid 1, not the shim.)"""
        found = {each.pid: each for each in super()._members(container_id)}
        if (running := self._running.get(container_id)) is not None:
            for pid in running.group.processes():
                process = processes.read(pid)
                if process is not None and not process.is_dead:
                    found[pid] = process
            if process_ids.find(running.pause) is not None:
                found.pop(running.pause.pid, None)
        return list(found.values())


def _is_root(user: str) -> bool:
    """Whether this user's uid is 0; "" is the slave's own user."""
    if not user:
        return os.geteuid() == 0
    try:
        return pwd.getpwnam(user).pw_uid == 0
    except KeyError:
        return False
