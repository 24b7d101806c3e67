"""The docker module's bookkeeping, with an engine that only remembers what it was told and cgroups that are plain files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from offerd.ids import ContainerID
from offerd.resources import NOTHING, Resources
from offerd_isolation import procfs
from offerd_isolation.docker import module
from offerd_isolation.docker.engine import Engine, EngineError
from offerd_isolation.docker.group import Group
from offerd_isolation.docker.kills import Kills
from offerd_isolation.docker.module import EXECUTOR_MEM_BYTES, DockerIsolation, _Running

MIB = 1 << 20
R = TypeVar("R")


class FakeApi:
    """Refuses what is about containers in `refused`; writes, as the real one does, all limits that it remembers."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.told: list[tuple[str, Any]] = []
        self.groups: dict[str, Path] = {}

    def update_container(self, name: str, **limits: Any) -> None:
        if any(each in name for each in self.refused):
            raise EngineError(f"{name} is unknown")
        self.told.append((name.rpartition("-")[2], limits["mem_limit"]))
        (self.groups[name.rpartition("-")[2]] / "memory.max").write_text("12345")

    def containers(self, **_: Any) -> list[Any]:
        return []


class FakeEngine(Engine):
    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeApi()

    def call(self, what: str, function: Callable[[Any], R], timeout_s: float | None = None) -> R:
        return function(self.fake)


class Bed:
    """A module with containers of which this very process is the pause."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = FakeEngine()
        self.isolation = DockerIsolation(path, engine=self.engine)

    def add(self, name: str, *, is_known: bool = True) -> Path:
        directory = self.path / name
        directory.mkdir()
        for file in ("cpu.weight", "memory.max", "memory.swap.max", "memory.events", "memory.events.local"):
            (directory / file).write_text("")
        own = procfs.identify(os.getpid())
        assert own is not None
        group = Group({"": str(directory)})
        running = _Running(own, group, Kills(group, directory))
        if is_known:
            running.wanted = running.applied = running.told = self.isolation._limits(NOTHING)
        self.isolation._running[ContainerID(name)] = running
        self.engine.fake.groups[name] = directory
        return directory

    def limit(self, name: str, mem: str) -> None:
        self.isolation.update(ContainerID(name), Resources.of(cpus=1, mem=mem))

    def verify(self) -> list[str]:
        return list(self.isolation.verify())


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr(module, "SETTLED_S", -1.0)
    return Bed(tmp_path)


def memory(group: Path) -> str:
    text = (group / "memory.max").read_text()
    return "max" if text.startswith("max") else text  # a plain file keeps the end of what was longer


def test_a_container_of_before_a_restart_keeps_its_limits_until_they_are_known(bed: Bed) -> None:
    group = bed.add("one", is_known=False)
    (group / "memory.max").write_text("777")
    assert bed.verify() == []
    assert memory(group) == "777"
    assert bed.engine.fake.told == []


def test_what_the_engine_writes_when_it_is_told_is_written_over(bed: Bed) -> None:
    group = bed.add("one")
    bed.limit("one", "64M")
    bed.verify()
    bed.verify()
    limit = 64 * MIB + EXECUTOR_MEM_BYTES
    assert bed.engine.fake.told == [("one", limit)]
    assert memory(group) == str(limit)
    assert (group / "memory.swap.max").read_text() == "0"


def test_the_engine_is_never_told_that_there_is_no_limit_of_memory_any_more(bed: Bed) -> None:
    """It would take it for no word, and write the old one: somebody who needs more would be killed for that."""
    group = bed.add("one")
    bed.limit("one", "64M")
    bed.verify()
    bed.verify()
    bed.engine.fake.told.clear()
    bed.limit("one", "0M")
    bed.verify()
    assert bed.engine.fake.told == []
    assert memory(group) == "max"


def test_a_limit_that_came_from_outside_where_there_is_to_be_none_is_taken_away(bed: Bed) -> None:
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


def test_a_container_that_the_engine_does_not_know_keeps_no_other_from_being_told(bed: Bed) -> None:
    bed.add("lost")
    bed.add("other")
    bed.engine.fake.refused.add("lost")
    for name in ("lost", "other"):
        bed.limit(name, "64M")
    bed.verify()
    assert [name for name, _ in bed.engine.fake.told] == ["other"]
