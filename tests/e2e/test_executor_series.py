"""Several programs in one task, as the command executor runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from helpers.fake_slave import FakeSlave, is_alive, task
from offerd.ids import TaskID
from offerd.messages import Reason, TaskInfo, TaskState
from offerd.tasks import series

MODULE = "offerd_executors.command"


@pytest.fixture
def slave(tmp_path: Path) -> Iterator[FakeSlave]:
    with FakeSlave(tmp_path / "sandbox", MODULE, {}) as made:
        yield made
        assert made.complaints() == ""


def several(task_id: str, *argvs: list[str], series_s: float = 60.0, inline: bool = True) -> TaskInfo:
    single = task(task_id, *argvs[0])
    assert single.command is not None
    command = msgspec.structs.replace(single.command, series=list(argvs[1:]), series_s=series_s)
    labels = {series.INLINE_LABEL: "1"} if inline else {}
    return msgspec.structs.replace(single, command=command, labels=labels)


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def test_programs_of_a_series_run_one_after_another_and_each_has_its_own_outcome(slave: FakeSlave) -> None:
    status = slave.run(several("a", shell("echo $$"), shell("echo oops >&2; exit 3"), shell("kill -9 $$")))
    first, second, third = series.unpack(status.data)
    assert first.exit_status == 0
    assert first.stdout.strip().isdigit()
    assert (second.exit_status, second.stderr, second.message) == (3, b"oops\n", "exited with status 3")
    assert (third.exit_status, third.message) == (-9, "killed by SIGKILL")
    assert (status.state, status.reason, status.exit_status) == (TaskState.FAILED, Reason.COMMAND_EXITED, 3)
    assert status.message == "2 of 3 programs ended badly, the first: exited with status 3"
    slave.wait_until(lambda: not (slave.sandbox / "tasks" / "a").exists(), "the empty directory is gone")


def test_changes_of_a_program_to_its_pipes_are_undone_before_the_next_begins(slave: FakeSlave) -> None:
    spoil = [sys.executable, "-c", "import os; os.set_blocking(1, False); print('spoilt')"]
    look = [sys.executable, "-c", "import os; print(os.get_blocking(1))"]
    status = slave.run(several("a", spoil, look, shell("sleep 0.1; echo late"), look))
    outputs = [part.stdout for part in series.unpack(status.data)]
    assert outputs == [b"spoilt\n", b"True\n", b"late\n", b"True\n"]


def test_processes_of_a_program_are_gone_before_the_next_begins(slave: FakeSlave, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    leave = (
        f"(setsid sh -c 'echo $$ >{note}; exec sleep 600' >/dev/null 2>&1 &); until [ -s {note} ]; do :; done"
    )
    look = f"kill -0 $(cat {note}) 2>/dev/null && echo alive || echo gone"
    status = slave.run(several("a", shell(leave), shell(look)))
    assert series.unpack(status.data)[1].stdout == b"gone\n"
    assert not is_alive(int(note.read_text()))


def test_a_program_that_does_not_exist_costs_only_itself(slave: FakeSlave) -> None:
    status = slave.run(several("a", ["true"], ["no-such-program"], ["echo", "on"]))
    first, second, third = series.unpack(status.data)
    assert (first.exit_status, first.is_started) == (0, True)
    assert (second.is_started, second.message) == (
        False,
        "cannot start no-such-program: No such file or directory",
    )
    assert third.stdout == b"on\n"
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.COMMAND_NOT_STARTED)


def test_a_program_that_leaves_a_file_is_the_last(slave: FakeSlave) -> None:
    status = slave.run(several("a", ["true"], ["touch", "kept"], ["true"]))
    assert status.state is TaskState.FINISHED
    assert len(series.unpack(status.data)) == 2
    assert os.listdir(slave.sandbox / "tasks" / "a") == ["kept"]


def test_a_program_with_too_much_output_for_a_status_is_the_last_of_its_series(
    slave: FakeSlave,
) -> None:
    status = slave.run(several("a", ["echo", "small"], ["head", "-c", "20000", "/dev/zero"], ["true"]))
    small, large = series.unpack(status.data)
    assert (small.stdout, small.is_in_files) == (b"small\n", False)
    assert (large.stdout, large.is_in_files) == (b"", True)
    assert (slave.sandbox / "tasks" / "a" / "stdout").read_bytes() == bytes(20_000)


def test_small_outputs_are_too_much_for_a_status_when_they_are_many(slave: FakeSlave) -> None:
    write = shell("head -c 4000 /dev/zero | tr '\\0' x")
    status = slave.run(several("a", *[write] * 60))
    parts = series.unpack(status.data)
    assert all(part.stdout == b"x" * 4000 for part in parts)
    assert len(parts) == 17  # the first that is more than 64 KiB in all


def test_no_program_is_started_after_the_time_of_the_series(slave: FakeSlave) -> None:
    status = slave.run(several("a", ["sleep", "0.2"], ["true"], series_s=0.1))
    assert status.state is TaskState.FINISHED
    (only,) = series.unpack(status.data)
    assert only.elapsed_s >= 0.2


def test_a_kill_ends_the_series_with_the_program_that_runs(slave: FakeSlave, tmp_path: Path) -> None:
    note = tmp_path / "runs"
    slave.launch(several("a", ["true"], shell(f"echo x >{note}; exec sleep 600"), ["true"]))
    slave.wait_until(note.exists, "the second program to run")
    slave.kill(TaskID("a"))
    status = slave.wait_ended([TaskID("a")])[0]
    first, second = series.unpack(status.data)
    assert (first.exit_status, first.is_killed) == (0, False)
    assert (second.exit_status, second.is_killed) == (-15, True)
    assert status.state is TaskState.KILLED


def test_without_the_label_outcomes_come_and_output_lies_in_files(slave: FakeSlave) -> None:
    status = slave.run(several("a", ["true"], ["echo", "one"], ["echo", "two"], inline=False))
    assert [part.is_in_files for part in series.unpack(status.data)] == [True, True]
    assert (slave.sandbox / "tasks" / "a" / "stdout").read_text() == "one\n"


def test_many_series_at_once_lose_nothing(slave: FakeSlave) -> None:
    names = [TaskID(f"t{number}") for number in range(30)]
    for name in names:
        slave.launch(several(name, *[["echo", f"{name}-{number}"] for number in range(20)]))
    for name in names:
        parts = series.unpack(slave.wait_ended([name])[0].data)
        assert [part.stdout.decode().strip() for part in parts] == [
            f"{name}-{number}" for number in range(20)
        ]
