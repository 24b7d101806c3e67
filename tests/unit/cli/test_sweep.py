"""Finds and kills the processes of one local cluster, and of no other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offerd_cli.sweep import MARK, members, sweep
from offerd_isolation.marks import CONTAINER_MARK, mark_prefix

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]

Start = Callable[[dict[str, str], list[str]], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that wait to be killed, and ends them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(environment: dict[str, str], words: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(
    "variables",
    [
        {MARK: "BASE"},
        {"OFFERD_SANDBOX": "BASE/slave-1/containers/c/sandbox"},
        {"OFFERD_TASK_SANDBOX": "BASE/x"},
        {"OFFERD_SLAVE_SOCKET": "ipc://BASE/slave-1/sockets/executors.sock"},
    ],
)
def test_a_process_is_known_by_its_environment(
    variables: dict[str, str], tmp_path: Path, start: Start
) -> None:
    marked = start({name: value.replace("BASE", str(tmp_path)) for name, value in variables.items()}, SLEEP)
    assert members(tmp_path) == {marked.pid}


@pytest.mark.parametrize(
    "variables",
    [{MARK: "BASE-other"}, {"PWD": "BASE/slave-1"}, {"OFFERD_SANDBOX": "BASE-other/x"}, {"X": "BASE"}],
)
def test_a_process_that_only_looks_at_the_directory_is_none_of_it(
    variables: dict[str, str], tmp_path: Path, start: Start
) -> None:
    start({name: value.replace("BASE", str(tmp_path)) for name, value in variables.items()}, SLEEP)
    assert members(tmp_path) == set()


def test_a_descendant_that_cleared_its_environment_is_found_and_killed_with_the_rest(
    tmp_path: Path, start: Start
) -> None:
    (tmp_path / "child.py").write_text(SLEEP[2])
    child = f"env -i {sys.executable} {tmp_path}/child.py"
    parent = start({MARK: str(tmp_path)}, ["sh", "-c", f"setsid {child} & wait $!"])
    deadline = time.monotonic() + 10
    while len(members(tmp_path)) < 2:
        assert time.monotonic() < deadline
    assert sweep(tmp_path)
    assert members(tmp_path) == set()
    # It was killed itself, or has ended because its child was killed a moment earlier.
    assert parent.wait(5) in (-9, 137)


def test_what_ends_by_itself_within_the_grace_is_not_killed(tmp_path: Path, start: Start) -> None:
    brief = start(
        {MARK: str(tmp_path)},
        [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(0.2)"],
    )
    assert sweep(tmp_path, grace_s=10)
    assert brief.wait(5) == 0


def test_sweeping_where_nothing_is_left_says_so_at_once(tmp_path: Path) -> None:
    assert sweep(tmp_path, grace_s=60)


def test_a_process_with_only_the_mark_of_a_slaves_container_is_found(tmp_path: Path, start: Start) -> None:
    """Like those that a zygote has forked, when their slave is killed and never started again."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    for base in (mine, other):
        base.joinpath("slave-1").mkdir(parents=True)
    mark = mark_prefix(mine / "slave-1") + "m1.1"
    process = start({CONTAINER_MARK: mark}, SLEEP)
    assert process.pid in members(mine)
    assert process.pid not in members(other)
