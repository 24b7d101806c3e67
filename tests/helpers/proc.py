"""Real containers for tests, launched by a real zygote and ended completely at the end."""

from __future__ import annotations

import logging
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from offerd.ids import ContainerID, ExecutorID, FrameworkID
from offerd.messages import ExecutorInfo
from offerd.tasks.task_output import DEFAULT_LOG_BYTES
from offerd_isolation import mounts
from offerd_isolation.base import ContainerSpec, Enter, Isolation
from offerd_isolation.noop import NoopIsolation
from offerd_linux import processes
from offerd_linux.process_ids import ProcessID
from offerd_slave import users
from offerd_slave.exits import ExitWatcher
from offerd_slave.launch.spec import Launched, LaunchSpec, NotLaunched
from offerd_slave.launch.zygote_client import ZygoteClient
from offerd_slave.records import ExitRecord
from offerd_slave.sandbox import make_container

T = TypeVar("T")

TESTS = Path(__file__).resolve().parents[1]
LIMIT_S = 20.0
"""Longer than any condition takes on a busy machine; a test that waits so long has failed."""


def wait_until(condition: Callable[[], T], what: str) -> T:
    """The first true value of `condition`; an AssertionError that says `what` did not happen."""
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"did not happen within {LIMIT_S} s: {what}"
        time.sleep(0.002)
    return value


def is_running(pid: int) -> bool:
    """Whether this pid is a process that still runs."""
    process = processes.read(pid)
    return process is not None and not process.is_dead


@dataclass(frozen=True, slots=True)
class Container:
    """A launched container."""

    container_id: ContainerID
    directory: Path
    sandbox: Path
    shim: ProcessID
    entered: Enter | None = None  # where its executor is, if its shim is elsewhere

    def output(self, name: str = "stdout") -> str:
        """What its executor has written so far."""
        return (self.sandbox / name).read_text()

    def pids(self) -> list[int]:
        """All processes below its shim, or in its cgroups, as the parent of orphans in an image's container is its pid 1."""
        if self.entered is None:
            return [process.pid for process in processes.descendants(self.shim.pid)]
        inside = {pid for pid in _cgroup_processes(self.entered) if is_running(pid)}
        return sorted(inside - {self.entered.process.pid})

    def wait_for(self, text: str) -> None:
        """Wait until its stdout contains this."""
        wait_until(lambda: text in self.output(), f"{text!r} in stdout; stderr: {self.output('stderr')}")


def _cgroup_processes(place: Enter) -> Iterator[int]:
    directory = next(name for name in place.cgroups if "memory" in name or len(place.cgroups) == 1)
    with suppress(FileNotFoundError):
        yield from map(int, Path(directory, "cgroup.procs").read_text().split())


class Bed:
    """A work directory with a zygote, an isolation module and an exit watcher."""

    def __init__(self, work_dir: Path, isolation: Isolation) -> None:
        (work_dir / "containers").mkdir(exist_ok=True)
        self.work_dir = work_dir
        self.isolation = isolation
        self.exits = ExitWatcher()
        self.zygote = ZygoteClient(logging.getLogger("test"), are_images_run=isolation.runs_images)
        self.zygote.start()
        self.containers: list[ContainerID] = []
        self.answers: dict[ContainerID, Launched | NotLaunched] = {}

    def request(
        self,
        *argv: str,
        module: str = "helpers.proc_executor",
        container_id: str = "",
        environment: dict[str, str] | None = None,
        user: str = "",
        log_bytes: int = DEFAULT_LOG_BYTES,
    ) -> LaunchSpec:
        """Make the container's directories and prepare its isolation; returns the request for the caller to launch."""
        name = ContainerID(container_id or f"c{len(self.containers)}")
        self.containers.append(name)
        directory = self.work_dir / "containers" / name
        account = users.look_up(user)
        sandbox = make_container(directory, account.credentials)
        executor = ExecutorInfo(ExecutorID("e"))
        launch = self.isolation.prepare(ContainerSpec(name, FrameworkID("f"), executor, sandbox, user))
        given = {"PYTHONPATH": str(TESTS), "PATH": "/usr/bin:/bin"} if environment is None else environment
        return LaunchSpec(
            container_id=name,
            container_dir=directory,
            sandbox=sandbox,
            module=module,
            argv=list(argv),
            environment=given | launch.environment,
            credentials=account.credentials,
            cgroup=launch.cgroup,
            enter=launch.enter,
            log_bytes=log_bytes,
        )

    def answer(self, container_id: ContainerID) -> Launched | NotLaunched:
        """Wait for the zygote's answer."""
        deadline = time.monotonic() + LIMIT_S
        while container_id not in self.answers:
            assert time.monotonic() < deadline, f"the zygote says nothing of {container_id}"
            select.select([self.zygote], [], [], 1.0)
            for reply in self.zygote.replies():
                assert reply.container_id not in self.answers, "answered twice"
                self.answers[reply.container_id] = reply
        return self.answers[container_id]

    def launch(
        self,
        *argv: str,
        module: str = "helpers.proc_executor",
        container_id: str = "",
        environment: dict[str, str] | None = None,
        user: str = "",
        log_bytes: int = DEFAULT_LOG_BYTES,
    ) -> Container:
        """Launch, isolate and watch a container."""
        spec = self.request(
            *argv,
            module=module,
            container_id=container_id,
            environment=environment,
            user=user,
            log_bytes=log_bytes,
        )
        self.zygote.launch(spec)
        reply = self.answer(spec.container_id)
        assert isinstance(reply, Launched), reply
        self.isolation.isolate(reply.container_id, reply.shim)
        self.exits.watch(reply.container_id, reply.shim, spec.container_dir)
        return Container(reply.container_id, spec.container_dir, spec.sandbox, reply.shim, spec.enter)

    def ended(self, container: Container) -> ExitRecord | None:
        """Wait for its end; returns the exit record."""
        deadline = time.monotonic() + LIMIT_S
        while is_running(container.shim.pid):
            assert time.monotonic() < deadline, f"{container.container_id} has not ended"
            select.select([self.exits], [], [], 0.1)
            self.exits.ended()
        return self.exits.record(container.directory)

    def cleanup(self, container: Container) -> None:
        """Clean up until nothing is left."""
        wait_until(lambda: self.isolation.cleanup(container.container_id), f"{container} destroyed")

    def close(self) -> None:
        """End everything."""
        for name in self.containers:
            wait_until(lambda name=name: self.isolation.cleanup(name), f"container {name} destroyed")  # type: ignore[misc]
        self.zygote.close()
        self.exits.close()
        mounts.release_below(self.work_dir)  # of a container whose directory a test has moved


@contextmanager
def bed(work_dir: Path, isolation: Isolation | None = None) -> Iterator[Bed]:
    """A bed that is always closed."""
    made = Bed(work_dir, isolation or NoopIsolation(work_dir))
    try:
        yield made
    finally:
        made.close()


def python(code: str) -> list[str]:
    """The command that runs this Python."""
    return [sys.executable, "-c", code]
