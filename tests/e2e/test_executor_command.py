"""The command executor as a process, driven by a fake slave: programs, their output, ends and process trees."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fake_slave import FakeSlave, end, is_alive, task
from offerd.ids import TaskID
from offerd.messages import Reason, TaskState, TaskStatus

MODULE = "offerd_executors.command"
LOG_BYTES = 100_000


@pytest.fixture
def slave(tmp_path: Path) -> Iterator[FakeSlave]:
    with FakeSlave(tmp_path / "sandbox", MODULE, {"OFFERD_LOG_BYTES": str(LOG_BYTES)}) as made:
        yield made
        assert made.complaints() == ""


def directory(slave: FakeSlave, task_id: str) -> Path:
    return slave.sandbox / "tasks" / task_id


def output(slave: FakeSlave, task_id: str, name: str = "stdout") -> str:
    return (directory(slave, task_id) / name).read_text()


def wait_for_pids(slave: FakeSlave, task_id: str, *names: str) -> list[int]:
    """The pids that a task writes into files of its directory, when all are there."""
    paths = [directory(slave, task_id) / name for name in names]
    slave.wait_until(
        lambda: all(path.exists() and path.read_text().endswith("\n") for path in paths),
        f"{names} of {task_id}",
    )
    return [int(path.read_text()) for path in paths]


def wait_dead(slave: FakeSlave, pids: list[int]) -> None:
    slave.wait_until(lambda: not any(is_alive(pid) for pid in pids), f"{pids} are dead")


# An orphan that leaves its task in every way: its own session, no parent, an empty environment.
ESCAPE = "(env -i setsid /bin/sh -c 'echo $$ >{name}; exec sleep 600' >/dev/null 2>&1 &)"
SETSID = "(setsid /bin/sh -c 'echo $$ >{name}; exec sleep 600' >/dev/null 2>&1 &)"
STUBBORN = "setsid /bin/sh -c 'trap \"\" TERM; echo $$ >{name}; while :; do sleep 1; done' >/dev/null 2>&1 &"


def test_a_program_runs_in_its_own_directory_and_its_output_is_kept(slave: FakeSlave) -> None:
    status = slave.run(task("a", "sh", "-c", "pwd; echo oops >&2"))
    assert (status.state, status.exit_status, status.reason) == (TaskState.FINISHED, 0, "")
    assert output(slave, "a") == f"{directory(slave, 'a')}\n"
    assert output(slave, "a", "stderr") == "oops\n"


def test_a_shell_line_runs_in_a_shell(slave: FakeSlave) -> None:
    slave.run(task("a", shell="echo one && echo two | tr a-z A-Z"))
    assert output(slave, "a") == "one\nTWO\n"


def test_the_environment_is_the_tasks_and_holds_no_secret(slave: FakeSlave) -> None:
    slave.run(task("a", "env", environment={"COLOUR": "green", "PATH": "/usr/bin:/bin"}))
    environ = dict(line.split("=", 1) for line in output(slave, "a").splitlines())
    assert environ["COLOUR"] == "green"
    assert environ["PATH"] == "/usr/bin:/bin"
    assert environ["OFFERD_TASK_ID"] == "a"
    assert environ["OFFERD_TASK_SANDBOX"] == str(directory(slave, "a"))
    assert not {"OFFERD_TOKEN", "OFFERD_SLAVE_SOCKET"} & set(environ)


def test_a_program_inherits_only_its_three_descriptors(slave: FakeSlave) -> None:
    slave.launch(task("other", "sleep", "600"))
    slave.run(task("a", shell="exec ls -l /proc/self/fd"))
    numbers = [line.split()[8] for line in output(slave, "a").splitlines()[1:]]
    assert numbers == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    assert "/dev/null" in output(slave, "a").splitlines()[1]


def test_a_program_begins_with_default_signals(slave: FakeSlave) -> None:
    slave.run(task("a", "cat", "/proc/self/status"))
    fields = dict(line.split(":\t") for line in output(slave, "a").splitlines())
    glibcs_own = 1 << 31 | 1 << 32  # 32 and 33: its posix_spawn ignores them, its threads take them back
    assert int(fields["SigBlk"], 16) == 0
    assert int(fields["SigIgn"], 16) & ~glibcs_own == 0


@pytest.mark.skipif(os.sched_getscheduler(0) != os.SCHED_OTHER, reason="somebody has chosen a policy")
def test_the_executor_interrupts_no_task_and_tasks_have_the_usual_policy(slave: FakeSlave) -> None:
    script = "import os; print(os.sched_getscheduler(0), os.sched_getscheduler(os.getppid()))"
    slave.run(task("a", sys.executable, "-c", script))
    assert output(slave, "a") == f"{os.SCHED_OTHER} {os.SCHED_BATCH}\n"


@pytest.mark.parametrize(
    ("shell", "exit_status", "message"),
    [
        ("exit 3", 3, "exited with status 3"),
        ("kill -SEGV $$", -11, "killed by SIGSEGV"),
        ("kill -9 $$", -9, "killed by SIGKILL"),
    ],
)
def test_a_failed_program_is_described_in_its_status(
    slave: FakeSlave, shell: str, exit_status: int, message: str
) -> None:
    status = slave.run(task("a", shell=shell))
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.COMMAND_EXITED)
    assert (status.exit_status, status.message) == (exit_status, message)


def test_a_program_that_does_not_exist_says_so(slave: FakeSlave) -> None:
    status = slave.run(task("a", "no-such-program"))
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.COMMAND_NOT_STARTED)
    assert status.message == "cannot start no-such-program: No such file or directory"
    assert slave.run(task("b", "/etc/passwd")).message == "cannot start /etc/passwd: Permission denied"
    assert (
        slave.run(task("c", "/no/such/path")).message
        == "cannot start /no/such/path: No such file or directory"
    )
    assert slave.run(task("d", "sh", "a\0b")).state is TaskState.FAILED
    assert slave.run(task("e")).reason == Reason.COMMAND_NOT_STARTED
    assert slave.run(task("f", "true")).state is TaskState.FINISHED


def test_a_program_is_looked_for_along_the_tasks_own_path(slave: FakeSlave, tmp_path: Path) -> None:
    for name in ("one", "two"):
        program = tmp_path / name / "tool"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
    for name in ("one", "two"):
        slave.run(task(name, "tool", environment={"PATH": f"{tmp_path / name}:/bin"}))
        assert output(slave, name) == f"{name}\n"
    (tmp_path / "one" / "tool").rename(tmp_path / "tool")
    assert slave.run(task("gone", "tool", environment={"PATH": f"{tmp_path / 'one'}:/bin"})).reason == (
        Reason.COMMAND_NOT_STARTED
    )


def test_usage_is_reported(slave: FakeSlave) -> None:
    spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    status = slave.run(task("a", shell=spin))
    assert status.usage is not None
    assert status.usage.cpu_s > 0.05
    big = slave.run(task("b", "sh", "-c", "head -c 200000000 /dev/zero | tail -c 150000000 | tail -c 1"))
    assert big.usage is not None
    assert big.usage.peak_mem_bytes > 100_000_000


def test_an_empty_directory_goes_and_one_with_content_stays(slave: FakeSlave) -> None:
    slave.run(task("silent", "true"))
    slave.run(task("file", "touch", "mine"))
    slave.wait_until(lambda: not directory(slave, "silent").exists(), "the empty directory goes")
    assert (directory(slave, "file") / "mine").exists()


def test_every_task_gets_a_private_directory_even_a_used_one(slave: FakeSlave) -> None:
    slave.run(task("open", "chmod", "777", "."))
    for number in range(3):
        slave.run(task(f"t{number}", shell="stat -c %a . > mode"))
        assert (directory(slave, f"t{number}") / "mode").read_text() == "700\n"
    assert stat.S_IMODE((slave.sandbox / "tasks").stat().st_mode) == 0o700


def test_output_is_rotated_and_its_end_is_kept(slave: FakeSlave) -> None:
    lines = 60_000
    slave.run(task("a", "seq", str(lines)))
    parts = [directory(slave, "a") / "stdout.1", directory(slave, "a") / "stdout"]
    assert [part.stat().st_size <= LOG_BYTES for part in parts] == [True, True]
    assert parts[0].stat().st_size == LOG_BYTES
    text = "".join(part.read_text() for part in parts)
    assert text == "".join(f"{n}\n" for n in range(1, lines + 1))[-len(text) :]
    assert sorted(path.name for path in directory(slave, "a").iterdir()) == ["stdout", "stdout.1"]


def test_large_output_of_many_tasks_is_complete(slave: FakeSlave) -> None:
    size = LOG_BYTES - 10
    slave.wait_ended(
        [slave.launch(task(f"t{n}", shell=f"head -c {size} /dev/zero | tr '\\0' {n}")) for n in range(9)]
    )
    for number in range(9):
        assert output(slave, f"t{number}") == str(number) * size


def test_a_task_that_removes_its_directory_loses_only_its_output(slave: FakeSlave) -> None:
    status = slave.run(task("a", shell='rmdir "$PWD"; echo hello'))
    assert status.state is TaskState.FINISHED
    assert status.message == "output lost: No such file or directory"


def test_output_does_not_follow_a_link_that_the_task_planted(slave: FakeSlave, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    slave.run(task("a", shell=f"ln -s {victim} stdout; echo overwritten"))
    assert victim.read_text() == "mine"


def test_a_pipe_held_open_by_another_process_does_not_delay_the_end(slave: FakeSlave, tmp_path: Path) -> None:
    # This test opens the task's stdout through /proc: a process outside of the tree.
    slave.launch(
        task("a", shell="echo $$ >pid; echo before; while [ ! -e go ]; do sleep 0.01; done; echo after")
    )
    (pid,) = wait_for_pids(slave, "a", "pid")
    with open(f"/proc/{pid}/fd/1", "wb"):
        (directory(slave, "a") / "go").touch()
        slave.wait_ended([TaskID("a")])
        assert output(slave, "a") == "before\nafter\n"


def test_running_comes_first_and_the_end_comes_once(slave: FakeSlave) -> None:
    slave.launch(task("a", "sleep", "0.1"))
    slave.wait_ended([TaskID("a")])
    assert [update.status.state for update in slave.updates] == [TaskState.RUNNING, TaskState.FINISHED]


def killed(slave: FakeSlave, task_id: str, grace_s: float | None = None) -> tuple[TaskStatus, float]:
    """Kill a task; returns its last status and how long that took."""
    started = time.monotonic()
    slave.kill(TaskID(task_id), grace_s)
    (status,) = slave.wait_ended([TaskID(task_id)])
    return status, time.monotonic() - started


def test_a_kill_ends_a_program_at_once_that_does_not_ignore_sigterm(slave: FakeSlave) -> None:
    slave.launch(task("a", "sleep", "600"))
    slave.wait_running(TaskID("a"))
    status, took_s = killed(slave, "a", 60.0)
    assert (status.state, status.exit_status, status.message) == (TaskState.KILLED, -15, "killed by SIGTERM")
    assert took_s < 10


def test_a_program_may_end_gracefully_within_the_grace(slave: FakeSlave) -> None:
    slave.launch(task("a", shell="trap 'echo bye; exit 4' TERM; touch ready; while :; do sleep 0.01; done"))
    slave.wait_until(lambda: (directory(slave, "a") / "ready").exists(), "ready")
    status, _ = killed(slave, "a", 60.0)
    assert (status.state, status.exit_status) == (TaskState.KILLED, 4)
    assert output(slave, "a") == "bye\n"


def test_a_program_that_ignores_term_is_killed_after_the_grace(slave: FakeSlave) -> None:
    slave.launch(task("a", shell="trap '' TERM; touch ready; while :; do sleep 0.1; done"))
    slave.wait_until(lambda: (directory(slave, "a") / "ready").exists(), "ready")
    status, took_s = killed(slave, "a", 0.4)
    assert (status.state, status.exit_status) == (TaskState.KILLED, -9)
    assert 0.4 <= took_s < 5


def test_a_stopped_program_can_be_killed(slave: FakeSlave) -> None:
    slave.launch(task("a", shell="echo $$ >pid; kill -STOP $$; sleep 600"))
    wait_for_pids(slave, "a", "pid")
    status, took_s = killed(slave, "a", 60.0)
    assert status.state is TaskState.KILLED
    assert took_s < 10


@pytest.mark.parametrize("others", [0, 2])
def test_a_kill_reaches_the_whole_tree_before_it_is_reported(slave: FakeSlave, others: int) -> None:
    for number in range(others):
        slave.launch(task(f"other{number}", "sleep", "600"))
    shell = "\n".join(
        [
            SETSID.format(name="p1"),
            STUBBORN.format(name="p2"),
            "sleep 600 & echo $! >p3",
            "echo $$ >p4",
            "wait",
        ]
    )
    slave.launch(task("a", shell=shell))
    pids = wait_for_pids(slave, "a", "p1", "p2", "p3", "p4")
    assert all(is_alive(pid) for pid in pids)
    status, took_s = killed(slave, "a", 0.3)
    assert [pid for pid in pids if is_alive(pid)] == []
    assert status.state is TaskState.KILLED
    assert took_s >= 0.3
    assert [task_id for task_id in slave.ended if task_id.startswith("other")] == []


def test_term_reaches_members_in_sessions_of_their_own(slave: FakeSlave) -> None:
    shell = "setsid sh -c 'trap \"echo heard >heard; exit\" TERM; echo $$ >p1; while :; do sleep 0.01; done' & wait"
    slave.launch(task("a", shell=shell))
    pids = wait_for_pids(slave, "a", "p1")
    _, took_s = killed(slave, "a", 60.0)
    assert took_s < 10
    assert (directory(slave, "a") / "heard").exists()
    assert not is_alive(pids[0])


def test_processes_that_a_finished_program_has_left_are_killed(slave: FakeSlave) -> None:
    shell = (
        "\n".join([SETSID.format(name="p1"), ESCAPE.format(name="p2"), "sleep 600 & echo $! >p3"])
        + "\nwhile [ ! -s p1 ] || [ ! -s p2 ]; do sleep 0.01; done"
    )
    status = slave.run(task("a", shell=shell))
    assert status.state is TaskState.FINISHED
    assert [pid for pid in wait_for_pids(slave, "a", "p1", "p2", "p3") if is_alive(pid)] == []


def test_processes_are_killed_even_if_the_kernel_lists_no_children(tmp_path: Path) -> None:
    """They are gone before the end is reported, and after a kill."""
    slave = FakeSlave(
        tmp_path / "sandbox", "helpers.no_child_lists", {"PYTHONPATH": str(Path(__file__).parents[1])}
    )
    shell = (
        "\n".join([SETSID.format(name="p1"), ESCAPE.format(name="p2")])
        + "\nwhile [ ! -s p1 ] || [ ! -s p2 ]; do sleep 0.01; done\n"
    )
    with slave:
        assert slave.run(task("a", shell=shell)).state is TaskState.FINISHED
        assert not any(is_alive(pid) for pid in wait_for_pids(slave, "a", "p1", "p2"))
        slave.launch(task("b", shell=f"{shell}sh -c 'echo $$ >p3; sleep 600; :'"))
        pids = wait_for_pids(slave, "b", "p1", "p2", "p3")
        killed(slave, "b", 0.0)
        assert not any(is_alive(pid) for pid in pids)
        assert slave.complaints() == ""


def test_an_orphan_of_unknown_origin_is_killed_with_the_last_task_that_it_may_belong_to(
    slave: FakeSlave,
) -> None:
    slave.launch(task("other", "sleep", "600"))
    slave.wait_running(TaskID("other"))
    slave.run(task("a", shell=ESCAPE.format(name="p1") + "; while [ ! -s p1 ]; do sleep 0.01; done"))
    (orphan,) = wait_for_pids(slave, "a", "p1")
    try:
        killed(slave, "other", 60.0)
        wait_dead(slave, [orphan])
    finally:
        end(orphan)


def test_a_daemon_of_a_running_task_is_left_alone(slave: FakeSlave) -> None:
    slave.launch(task("a", shell=SETSID.format(name="p1") + "; sleep 600"))
    (daemon,) = wait_for_pids(slave, "a", "p1")
    for number in range(5):
        slave.run(task(f"t{number}", "true"))
    assert is_alive(daemon)
    killed(slave, "a", 60.0)
    assert not is_alive(daemon)


def test_a_task_killed_before_it_starts_never_runs(slave: FakeSlave) -> None:
    ids = [slave.launch(task(f"t{n}", "touch", "ran")) for n in range(200)]
    slave.kill(ids[-1])
    statuses = slave.wait_ended(ids)
    assert statuses[-1].state is TaskState.KILLED
    assert not (directory(slave, "t199") / "ran").exists()
    assert all(status.state is TaskState.FINISHED for status in statuses[:-1])


def test_shutdown_ends_all_tasks_and_then_the_executor(slave: FakeSlave) -> None:
    slave.launch(task("polite", "sleep", "600"))
    slave.launch(
        task("stubborn", shell=STUBBORN.format(name="p1") + " trap '' TERM; while :; do sleep 0.1; done")
    )
    pids = wait_for_pids(slave, "stubborn", "p1")
    assert slave.shut_down(0.3) == 0
    assert {task_id: status.state for task_id, status in slave.ended.items()} == {
        "polite": TaskState.KILLED,
        "stubborn": TaskState.KILLED,
    }
    assert not is_alive(pids[0])


def test_tasks_go_on_while_the_slave_is_away(slave: FakeSlave) -> None:
    slave.launch(task("a", shell="echo $$ >pid; while [ ! -e go ]; do sleep 0.01; done; exit 5"))
    wait_for_pids(slave, "a", "pid")
    slave.unbind()
    (directory(slave, "a") / "go").touch()
    time.sleep(0.1)
    slave.bind()
    assert slave.wait_ended([TaskID("a")])[0].exit_status == 5
    assert slave.registrations[-1].task_ids == ["a"]


def test_five_hundred_tasks_leave_nothing_behind(slave: FakeSlave) -> None:
    slave.run(task("warm", "true"))
    before = slave.descriptors()
    ids = [
        slave.launch(task(f"t{n}", shell="(setsid sleep 600 >/dev/null 2>&1 &)" if n % 10 == 0 else "exit 0"))
        for n in range(500)
    ]
    slave.wait_ended(ids)
    slave.wait_until(lambda: not os.listdir(slave.sandbox / "tasks"), "empty directories go")
    assert slave.children() == []
    assert slave.descriptors() == before
    assert slave.shut_down() == 0
    assert sorted(os.listdir(slave.sandbox)) == ["stderr", "stdout", "tasks"]


def test_bad_settings_are_one_line_and_status_2(tmp_path: Path) -> None:
    slave = FakeSlave(tmp_path / "sandbox", MODULE, {"OFFERD_LOG_BYTES": "plenty"})
    with pytest.raises(AssertionError, match="the executor ended before"), slave:
        pass
    slave.__exit__(None, None, None)
    assert slave.process is not None
    assert slave.process.returncode == 2
    assert slave.complaints() == (
        "command executor: OFFERD_LOG_BYTES is 'plenty': write a number of bytes above 0\n"
    )
