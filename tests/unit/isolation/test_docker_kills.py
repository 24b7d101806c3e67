"""Of whom a container's kills are told, with a cgroup that is plain files."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from offerd_isolation.docker import kills
from offerd_isolation.docker.group import Group
from offerd_isolation.docker.kills import Kills

KILLED = -signal.SIGKILL


class Kernel:
    """A container's counts, and who tells of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "container").mkdir()
        self.count()

    def count(self, *, kills: int = 0, at_limit: int = 0, refused: int = 0) -> None:
        (self.path / "memory.events").write_text(f"oom {at_limit}\noom_kill {kills}\n")
        (self.path / "memory.events.local").write_text(f"oom {at_limit}\noom_kill {kills}\n")
        (self.path / "pids.events").write_text(f"max {refused}\n")

    def slave(self) -> Kills:
        """One that has just started."""
        return Kills(Group.at({"": str(self.path)}), self.path / "container")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_kill_is_told_of_the_task_that_signal_9_ended_and_of_no_other(kernel: Kernel) -> None:
    told = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    assert told.take(1) is None, "it ended by itself"
    assert told.take(None) is None
    assert told.take(KILLED) == "limit"
    assert told.take(KILLED) is None, "somebody has killed that one"


def test_a_shell_that_says_that_its_program_was_killed_is_told(kernel: Kernel) -> None:
    told = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    assert told.take(137) == "limit"
    assert told.take(137) is None


def test_all_kills_until_then_are_told_at_once(kernel: Kernel) -> None:
    told = kernel.slave()
    kernel.count(kills=5, at_limit=5)
    assert told.take(KILLED) == "limit"
    assert told.take(KILLED) is None, "four were processes of the first"


def test_without_a_limit_of_its_own_that_was_reached_it_was_the_host(kernel: Kernel) -> None:
    told = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    assert told.take(KILLED) == "limit"
    kernel.count(kills=2, at_limit=1)
    assert told.take(KILLED) == "host"


def test_a_kill_that_ended_no_task_is_not_told_of_one_that_dies_much_later(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    told.keep()
    monkeypatch.setattr(kills, "FRESH_S", -1.0)
    told.keep()
    assert told.take(KILLED) is None


def test_a_kill_that_came_while_no_slave_ran_is_told_by_the_next_and_one_that_was_told_is_not(
    kernel: Kernel,
) -> None:
    first = kernel.slave()
    kernel.count(kills=1, at_limit=1, refused=3)
    assert first.take(KILLED) == "limit"
    assert first.take_refused()
    first.keep()
    second = kernel.slave()
    assert second.take(KILLED) is None
    assert not second.take_refused()
    kernel.count(kills=2, at_limit=2, refused=4)
    third = kernel.slave()
    assert third.take(KILLED) == "limit"
    assert third.take_refused()


def test_a_slave_that_dies_before_it_has_told_leaves_it_to_the_next(kernel: Kernel) -> None:
    first = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    first.keep()
    assert kernel.slave().take(KILLED) == "limit"


@pytest.mark.parametrize("content", ["", "[1]", '{"nonsense": 1}'])
def test_a_damaged_file_is_none(kernel: Kernel, content: str) -> None:
    (kernel.path / "container" / kills.FILE).write_text(content)
    kernel.count(kills=1)
    assert kernel.slave().take(KILLED) == "host"
