"""For which task a container's kills are reported, with a cgroup of plain files."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from offerd_isolation.docker import kills
from offerd_isolation.docker.group import Group
from offerd_isolation.docker.kills import Kills

KILLED = -signal.SIGKILL


class Kernel:
    """A container's counts, and slaves that report them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "container").mkdir()
        self.count()

    def count(self, *, kills: int = 0, at_limit: int = 0, refused: int = 0) -> None:
        (self.path / "memory.events").write_text(f"oom {at_limit}\noom_kill {kills}\n")
        (self.path / "memory.events.local").write_text(f"oom {at_limit}\noom_kill {kills}\n")
        (self.path / "pids.events").write_text(f"max {refused}\n")

    def slave(self) -> Kills:
        """A slave that has just started."""
        return Kills(Group.at({"": str(self.path)}), self.path / "container")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_kill_is_reported_for_the_task_that_sigkill_ended_and_no_other(kernel: Kernel) -> None:
    report = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    assert report.take(1) is None, "it ended by itself"
    assert report.take(None) is None
    assert report.take(KILLED) == "limit"
    assert report.take(KILLED) is None, "that task was killed by something else"


def test_a_kill_is_reported_for_a_shell_whose_program_was_killed(kernel: Kernel) -> None:
    report = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    assert report.take(137) == "limit"
    assert report.take(137) is None


def test_all_kills_so_far_are_reported_together(kernel: Kernel) -> None:
    report = kernel.slave()
    kernel.count(kills=5, at_limit=5)
    assert report.take(KILLED) == "limit"
    assert report.take(KILLED) is None, "all four kills were in the first task"


def test_a_kill_without_a_reached_limit_is_for_the_hosts_memory(kernel: Kernel) -> None:
    report = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    assert report.take(KILLED) == "limit"
    kernel.count(kills=2, at_limit=1)
    assert report.take(KILLED) == "host"


def test_a_kill_that_ended_no_task_is_not_reported_for_a_much_later_death(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    report.keep()
    monkeypatch.setattr(kills, "FRESH_S", -1.0)
    report.keep()
    assert report.take(KILLED) is None


def test_a_kill_while_no_slave_ran_is_reported_by_the_next_slave_once(
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


def test_a_kill_that_a_dying_slave_has_not_reported_is_reported_by_the_next(kernel: Kernel) -> None:
    first = kernel.slave()
    kernel.count(kills=1, at_limit=1)
    first.keep()
    assert kernel.slave().take(KILLED) == "limit"


@pytest.mark.parametrize("content", ["", "[1]", '{"nonsense": 1}'])
def test_a_damaged_file_counts_as_missing(kernel: Kernel, content: str) -> None:
    (kernel.path / "container" / kills.FILE).write_text(content)
    kernel.count(kills=1)
    assert kernel.slave().take(KILLED) == "host"
