"""Processes as /proc shows them: trees with and without the kernel's lists of children, what they show, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from helpers.no_child_lists import open_but_child_lists
from helpers.proc import wait_until
from offerd_linux import processes
from offerd_linux.processes import TooManyProcesses

TREE = """
import os, time
if (child := os.fork()) == 0:
    if (grandchild := os.fork()) == 0:
        time.sleep(600)
    print(os.getppid(), os.getpid(), grandchild, flush=True)
    time.sleep(600)
time.sleep(600)
"""


class Line(NamedTuple):
    """Two processes that seem to be each other's parents; the first is our child."""

    root: int
    child: int
    grandchild: int


@pytest.fixture
def line() -> Iterator[Line]:
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = Line(*map(int, process.stdout.readline().split()))
        yield found
        for pid in found:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["lists", "no lists"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a kernel that lists the children of each thread, and one that does not."""
    if request.param == "no lists":
        monkeypatch.setattr(os, "open", open_but_child_lists)


@pytest.mark.usefixtures("kernel")
def test_everything_below_a_process_is_found_parents_first(line: Line) -> None:
    assert processes.children(line.root) == [line.child]
    assert line.root in processes.own_children()
    found = processes.descendants(line.root)
    assert [(each.pid, each.ppid) for each in found] == [
        (line.child, line.root),
        (line.grandchild, line.child),
    ]
    assert [each.pid for each in processes.descendants([line.child, line.root])] == [line.grandchild]


@pytest.mark.usefixtures("kernel")
def test_no_more_processes_are_looked_at_than_asked_for(line: Line) -> None:
    assert len(processes.descendants(line.root, most=2)) == 2
    with pytest.raises(TooManyProcesses):
        processes.descendants(line.root, most=1)


@pytest.mark.usefixtures("kernel")
def test_dead_processes_are_children_until_they_are_reaped() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid in processes.own_children()
        assert process.pid not in [each.pid for each in processes.descendants(os.getpid())]
    assert process.pid not in processes.own_children()
    assert processes.children(process.pid) == []


def test_a_process_that_reuses_a_listed_pid_is_not_in_the_tree(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {line.child: [os.getpid(), line.grandchild]}
    monkeypatch.setattr(processes, "_listed_children", lambda pid: listed.get(pid, []))
    assert [each.pid for each in processes.descendants(line.child)] == [line.grandchild]


def test_a_process_that_is_gone_shows_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    gone = process.pid
    assert processes.read(gone) is None
    assert processes.uids(gone) is None
    assert (processes.environment(gone), processes.command_line(gone), processes.name(gone)) == (b"", b"", "")
    assert not processes.kill(gone, 1)


def test_a_process_that_we_may_not_see_shows_nothing_and_hides_no_other(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if /proc were mounted with hidepid=1 and we were not root."""
    real = open

    def refused(path: Any, *words: Any, **options: Any) -> Any:
        if str(path).startswith(f"/proc/{line.child}/"):
            raise PermissionError(1, os.strerror(1), path)
        return real(path, *words, **options)

    monkeypatch.setattr("builtins.open", refused)
    hidden = line.child
    assert processes.read(hidden) is None
    assert (processes.environment(hidden), processes.command_line(hidden), processes.name(hidden)) == (
        b"", b"", "",
    )  # fmt: skip
    with pytest.raises(PermissionError):
        processes.read_environment(hidden)
    seen = {each.pid for each in processes.everyone()}
    assert line.root in seen
    assert hidden not in seen


def test_what_a_process_shows_is_what_it_was_started_with() -> None:
    environment = {"LARGE": "x" * 70_000, "MARK": "here", "MARKED": "not this"}
    with subprocess.Popen(["sleep", "600"], env=environment) as process:
        wait_until(lambda: processes.command_line(process.pid) == b"sleep\x00600\x00", "its exec")
        assert processes.variable(processes.environment(process.pid), "MARK") == "here"
        assert processes.variable(processes.environment(process.pid), "ARK") is None
        assert processes.name(process.pid) == "sleep"
        assert processes.uids(process.pid) == os.getresuid()
        found = processes.read(process.pid)
        assert found is not None
        assert (found.ppid, found.session, found.group) == (os.getpid(), os.getsid(0), os.getpgid(0))
        assert not processes.kill(process.pid, found.start_ticks + 1), "another process's start time"
        assert processes.kill(process.pid, found.start_ticks, signal.SIGTERM, signal.SIGCONT)
    assert process.returncode == -signal.SIGTERM
