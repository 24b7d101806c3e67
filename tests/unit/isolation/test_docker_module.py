"""The docker module's bookkeeping, with an engine that only remembers calls, and cgroups of plain files."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from helpers.fake_cgroups import FILES, files_have_no_length
from helpers.proc import wait_until
from offerd.ids import ContainerID, ExecutorID, FrameworkID
from offerd.messages import ExecutorInfo
from offerd.resources import NOTHING, Resources
from offerd_isolation import mounts
from offerd_isolation.base import ContainerSpec, IsolationError, IsolationOptions
from offerd_isolation.cgroups import limits
from offerd_isolation.cgroups.limits import EXECUTOR_MEM_BYTES
from offerd_isolation.docker import module, pause, running
from offerd_isolation.docker.configuration import PAUSE_MARK
from offerd_isolation.docker.engine import Engine, EngineError
from offerd_isolation.docker.group import Group
from offerd_isolation.docker.kills import Kills
from offerd_isolation.docker.module import (
    CREATED_AT_ONCE,
    DockerIsolation,
)
from offerd_isolation.docker.running import Running
from offerd_isolation.marks import CONTAINER_MARK
from offerd_linux import process_ids, processes

MIB = 1 << 20
R = TypeVar("R")


class FakeApi:
    """Refuses calls about containers in `refused`; like the real one, it writes all limits that it remembers."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.updates: list[tuple[str, Any]] = []
        self.groups: dict[str, Path] = {}

    def update_container(self, name: str, **limits: Any) -> None:
        if any(each in name for each in self.refused):
            raise EngineError(f"{name} is unknown")
        self.updates.append((name.rpartition("-")[2], limits["mem_limit"]))
        (self.groups[name.rpartition("-")[2]] / "memory.max").write_text("12345")

    def create_container_from_config(self, configuration: dict[str, Any], name: str) -> None:
        pass

    def start(self, name: str) -> None:
        pass

    def inspect_image(self, name: str) -> dict[str, Any]:
        return {"Id": "sha256:1"}

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"State": {"Pid": os.getpid(), "Running": True, "Error": ""}}

    def containers(self, **_: Any) -> list[Any]:
        return []


class FakeEngine(Engine):
    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeApi()

    def call(self, what: str, function: Callable[[Any], R], timeout_s: float | None = None) -> R:
        return function(self.fake)


class Bed:
    """A module with containers, whose pause process is this test process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = FakeEngine()
        self.isolation = DockerIsolation(path, IsolationOptions(images=("*",)), engine=self.engine)

    def add(self, name: str, *, is_known: bool = True) -> Path:
        directory = self.path / name
        directory.mkdir()
        for file in ("cpu.weight", "memory.max", "memory.swap.max", "memory.current", "memory.stat"):
            (directory / file).write_text(FILES[file])
        own = process_ids.identify(os.getpid())
        assert own is not None
        group = Group.at({"": str(directory)})
        made = Running(own, group, Kills(group, directory))
        if is_known:
            made.wanted = made.applied = made.known_to_engine = limits.of_docker_container(
                NOTHING, self.isolation.options
            )
        self.isolation._running[ContainerID(name)] = made
        self.engine.fake.groups[name] = directory
        return directory

    def limit(self, name: str, mem: str) -> None:
        self.isolation.update(ContainerID(name), Resources.of(cpus=1, mem=mem))

    def verify(self) -> list[str]:
        return list(self.isolation.verify())


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr(running, "SETTLED_S", -1.0)
    files_have_no_length(monkeypatch)
    monkeypatch.setattr(mounts, "make_harmless", lambda path: None)
    return Bed(tmp_path)


def memory(group: Path) -> str:
    return (group / "memory.max").read_text()


def test_an_adopted_container_keeps_its_limits_until_new_ones_are_known(bed: Bed) -> None:
    group = bed.add("one", is_known=False)
    (group / "memory.max").write_text("777")
    assert bed.verify() == []
    assert memory(group) == "777"
    assert bed.engine.fake.updates == []


def test_limits_that_the_engine_writes_during_an_update_are_overwritten(bed: Bed) -> None:
    group = bed.add("one")
    bed.limit("one", "64M")
    bed.verify()
    bed.verify()
    limit = 64 * MIB + EXECUTOR_MEM_BYTES
    assert bed.engine.fake.updates == [("one", limit)]
    assert memory(group) == str(limit)
    assert (group / "memory.swap.max").read_text() == "0"


def test_removing_a_memory_limit_is_never_sent_to_the_engine(bed: Bed) -> None:
    """The engine would take it for "not given" and write its old limit, for which a task could be killed."""
    group = bed.add("one")
    bed.limit("one", "64M")
    bed.verify()
    bed.verify()
    bed.engine.fake.updates.clear()
    bed.limit("one", "0M")
    bed.verify()
    assert bed.engine.fake.updates == []
    assert memory(group) == "max"


def test_a_memory_limit_set_from_outside_is_removed_if_there_should_be_none(bed: Bed) -> None:
    group = bed.add("one")
    (group / "memory.max").write_text("4096")
    assert bed.verify() == ["container one: memory was 4096 bytes"]
    assert memory(group) == "max"


def test_an_idle_container_keeps_the_limit_of_its_last_tasks(bed: Bed) -> None:
    group = bed.add("one")
    bed.limit("one", "64M")
    bed.verify()
    bed.isolation.update(ContainerID("one"), NOTHING)
    bed.verify()
    assert memory(group) == str(64 * MIB + EXECUTOR_MEM_BYTES)


def test_a_container_unknown_to_the_engine_does_not_block_updates_of_others(bed: Bed) -> None:
    bed.add("lost")
    bed.add("other")
    bed.engine.fake.refused.add("lost")
    for name in ("lost", "other"):
        bed.limit(name, "64M")
    bed.verify()
    assert [name for name, _ in bed.engine.fake.updates] == ["other"]


def test_a_host_process_with_a_containers_marks_is_not_taken_for_a_container(bed: Bed) -> None:
    """Not even if it runs the pause program."""
    marks = {CONTAINER_MARK: bed.isolation._prefix + "one", PAUSE_MARK: "1"}
    program = pause.install(bed.path / "docker")
    with subprocess.Popen(["sleep", "600"], env=marks) as one, subprocess.Popen([program], env=marks) as two:
        try:
            assert list(bed.isolation.recover({})) == []
            assert bed.isolation._running == {}
            assert (one.poll(), two.poll()) == (None, None)
        finally:
            one.kill()
            two.kill()


@pytest.mark.root
@pytest.mark.parametrize(
    ("drop", "is_ours"), [((), True), (("setpriv", "--reuid=65534", "--clear-groups"), False)]
)
def test_the_pause_program_in_another_users_namespaces_is_not_taken_for_a_container(
    tmp_path: Path, drop: tuple[str, ...], is_ours: bool
) -> None:
    """Any user may make a user namespace, be root in it and make a pid namespace."""
    with tempfile.TemporaryDirectory(prefix="offerd-") as name:
        Path(name).chmod(0o755)
        program = pause.install(Path(name) / "docker")
        namespaces = ["unshare", *(() if is_ours else ("-Ur",)), "-pf", "--kill-child"]
        with subprocess.Popen([*drop, *namespaces, program]) as started:
            try:
                (pid,) = wait_until(lambda: processes.children(started.pid), "pid 1")
                wait_until(lambda: _runs(pid, program), "the program")
                assert pause.is_of_a_container(pid, Path(name) / "docker") is is_ours
            finally:
                started.kill()


def _runs(pid: int, program: Path) -> bool:
    return os.stat(f"/proc/{pid}/exe").st_ino == program.stat().st_ino


def test_containers_of_a_replaced_pause_program_are_still_recognized(tmp_path: Path) -> None:
    program = pause.install(tmp_path)
    old = program.stat().st_ino
    program.chmod(0o755)
    program.write_bytes(b"of another version")
    assert pause.install(tmp_path).stat().st_ino != old
    assert old in [each.stat().st_ino for each in tmp_path.iterdir()]


def test_an_engine_in_another_pid_namespace_is_detected(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXEC_S", 0.0)
    executor = ExecutorInfo(ExecutorID("e"), image="small")
    spec = ContainerSpec(ContainerID("one"), FrameworkID("f"), executor, bed.path)
    with pytest.raises(IsolationError, match="not in this slave's pid namespace"):
        bed.isolation.prepare(spec)


def test_an_adopted_containers_memory_limit_is_not_lowered_below_its_use(bed: Bed) -> None:
    group = bed.add("one", is_known=False)
    (group / "memory.current").write_text(str(510 * MIB))
    (group / "memory.stat").write_text(f"anon {500 * MIB}\n")
    bed.limit("one", "64M")
    assert memory(group) == "max"
    bed.verify()
    assert int(memory(group)) >= 500 * MIB
    (group / "memory.current").write_text(str(MIB))
    (group / "memory.stat").write_text("anon 0\n")
    bed.verify()
    assert memory(group) == str(64 * MIB + EXECUTOR_MEM_BYTES)


def test_an_adopted_containers_limit_is_raised_at_once(bed: Bed) -> None:
    group = bed.add("one", is_known=False)
    (group / "memory.max").write_text(str(100 * MIB))
    bed.limit("one", "64M")
    assert memory(group) == str(64 * MIB + EXECUTOR_MEM_BYTES)


def test_update_raises_limits_at_once_even_during_a_call_to_the_engine(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine writes the limit of the call, which is too low by then; a task that started meanwhile must not be killed."""
    group = bed.add("one")
    bed.limit("one", "64M")
    bed.verify()
    bed.engine.fake.updates.clear()
    bed.isolation._running[ContainerID("one")].known_to_engine = None
    is_updating, may_answer = threading.Event(), threading.Event()
    write = bed.engine.fake.update_container

    def update_container(name: str, **limits: Any) -> None:
        is_updating.set()
        assert may_answer.wait(10)
        write(name, **limits)

    monkeypatch.setattr(bed.engine.fake, "update_container", update_container)
    thread = threading.Thread(target=bed.verify)
    thread.start()
    assert is_updating.wait(10)
    bed.limit("one", "200M")
    more = str(200 * MIB + EXECUTOR_MEM_BYTES)
    assert memory(group) == more
    may_answer.set()
    thread.join(10)
    assert bed.engine.fake.updates == [("one", 64 * MIB + EXECUTOR_MEM_BYTES)]
    assert memory(group) == more


def test_an_engine_makes_few_containers_at_once(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXEC_S", 0.0)
    may_create, begun = threading.Semaphore(0), threading.Semaphore(0)

    def create(*_: Any) -> None:
        begun.release()
        assert may_create.acquire(timeout=10)

    monkeypatch.setattr(bed.engine.fake, "create_container_from_config", create)
    executor = ExecutorInfo(ExecutorID("e"), image="small")

    def prepare(number: int) -> None:
        spec = ContainerSpec(ContainerID(f"c{number}"), FrameworkID("f"), executor, bed.path)
        with pytest.raises(IsolationError):
            bed.isolation.prepare(spec)

    threads = [threading.Thread(target=prepare, args=(number,)) for number in range(3 * CREATED_AT_ONCE)]
    for each in threads:
        each.start()
    for _ in range(CREATED_AT_ONCE):
        assert begun.acquire(timeout=10)
    assert not begun.acquire(timeout=0.2)
    may_create.release(len(threads))
    for each in threads:
        each.join(10)


def spec_of(image: str, path: Path, user: str = "nobody") -> ContainerSpec:
    executor = ExecutorInfo(ExecutorID("e"), image=image)
    return ContainerSpec(ContainerID("one"), FrameworkID("f"), executor, path, user=user)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (IsolationOptions(), "which allows none"),
        (IsolationOptions(image="debian:12"), "which allows debian:12"),
        (
            IsolationOptions(image="debian:12", images=("team/*", "a:1")),
            r"which allows debian:12, team/\*, a:1",
        ),
    ],
)
def test_an_image_that_the_operator_has_not_allowed_is_refused_and_the_reason_names_the_option(
    tmp_path: Path, options: IsolationOptions, says: str
) -> None:
    isolation = DockerIsolation(tmp_path, options, engine=FakeEngine())
    with pytest.raises(
        IsolationError, match=rf"image evil\\x1b:1 is not allowed on this slave, {says}.*--images"
    ):
        isolation.prepare(spec_of("evil\x1b:1", tmp_path))


def test_a_container_has_no_network_unless_the_operator_gives_it_one(tmp_path: Path) -> None:
    def network_of(options: IsolationOptions) -> str:
        isolation = DockerIsolation(tmp_path, options, engine=FakeEngine())
        made = isolation._configuration(spec_of("a", tmp_path), "sha256:1", tmp_path)
        return str(made["HostConfig"]["NetworkMode"])

    assert network_of(IsolationOptions()) == "none"
    assert network_of(IsolationOptions(network="bridge")) == "bridge"


@pytest.mark.parametrize(("user", "is_refused"), [("root", True), ("", os.geteuid() == 0), ("nobody", False)])
def test_without_a_nosuid_sandbox_no_task_runs_as_root(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, user: str, is_refused: bool
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(1, f"cannot mount {path} nosuid: Operation not permitted")

    monkeypatch.setattr(mounts, "make_harmless", refuse)
    spec = spec_of("a", bed.path, user)
    if is_refused:
        with pytest.raises(IsolationError, match=r"nosuid.* no task may run as root here"):
            bed.isolation._guard(spec)
    else:
        bed.isolation._guard(spec)
