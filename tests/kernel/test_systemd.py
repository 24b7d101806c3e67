"""Under systemd: the slave by its units, and the slave of a user without root in a scope.

For `make test-nightly` (OFFERD_SYSTEMD=1), in a guest whose pid 1 is systemd. Where the host does not virtualize it
is emulated, and slow as the host is busy: no task has a time limit, and nothing is waited for with less than `PATIENCE_S`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.documents import commands
from helpers.kernel_bed import wait_until
from helpers.recorder import Recorder, ended_once
from helpers.systemd_host import (
    MASTER,
    PATIENCE_S,
    SLAVE_UNIT,
    TASKS_UNIT,
    User,
    leaf,
    main_pid,
    own_cgroup,
    pids,
    prop,
    provision,
    run,
    systemctl,
    unbind,
    wait_new_slave,
)
from offerd.ids import TaskID
from offerd.messages import Reason, TaskState

UNITS = ("offerd-slave", "offerd-master", "offerd-tasks")
HOG = "head -c 200M /dev/zero | tail"
FOR_EVER = "sleep 1000 & wait"


@pytest.fixture(scope="module")
def framework() -> Iterator[Recorder]:
    """A framework of an installed master and slave."""
    provision()
    with recorder() as made:
        yield made


@contextmanager
def recorder() -> Iterator[Recorder]:
    made = Recorder(MASTER)
    made.patience_s = PATIENCE_S
    with made:
        yield made


@pytest.fixture(autouse=True)
def journal() -> Iterator[None]:
    """Shown with a test that fails."""
    yield
    print(run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "60"))


def start(framework: Recorder, name: str, shell: str, divided: Path) -> list[int]:
    """A task, and its processes once all of them are there."""
    framework.run(name, shell, limit_s=None)
    framework.wait(name, TaskState.RUNNING)
    return wait_until(lambda: _all_of(shell, pids(leaf(divided, name))), f"{name} runs", PATIENCE_S)


def _all_of(shell: str, found: list[int]) -> list[int]:
    return found if len(found) == shell.count("&") + 1 else []


def finishes(framework: Recorder, name: str) -> bool:
    """Whether a task that does nothing finishes."""
    framework.run(name, "true", limit_s=None)
    return framework.wait_end(name).state is TaskState.FINISHED


def test_a_task_is_below_the_unit_of_tasks_and_its_slave_in_its_own(framework: Recorder) -> None:
    # A login shell knows from /etc/profile.d where the master without keys is.
    said = run("bash", "-lc", "offerd run -- cat /proc/self/cgroup")
    assert said.startswith("0::/system.slice/offerd-tasks.service/offerd.slice/")
    assert own_cgroup(main_pid("offerd-slave")) == SLAVE_UNIT
    assert own_cgroup(main_pid("offerd-tasks")) == TASKS_UNIT / "keeper"


def test_a_task_over_its_memory_ends_alone(framework: Recorder) -> None:
    units = ("offerd-slave", "offerd-tasks")
    before = [main_pid(unit) for unit in units]
    (calm,) = start(framework, "calm", "exec sleep 1000", TASKS_UNIT)
    framework.run("greedy", HOG, mem="32M", limit_s=None)
    status = framework.wait_end("greedy")
    assert (status.state, status.reason) == (TaskState.FAILED, Reason.LIMIT_EXCEEDED)
    assert status.limit == f"memory.max={32 << 20}"
    assert [main_pid(unit) for unit in units] == before
    assert pids(leaf(TASKS_UNIT, "calm")) == [calm]
    framework.driver.kill_task(TaskID("calm"))
    assert framework.wait_end("calm").state is TaskState.KILLED


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_task_outlives_its_slave_and_has_one_end(framework: Recorder, how: str) -> None:
    # Where nobody gets to it, as whom tasks run here.
    name, gate, slave = f"through-{how}", Path("/run", f"gate-{how}"), main_pid("offerd-slave")
    os.mkfifo(gate)
    gate.chmod(0o666)
    running = start(framework, name, f"read word <{gate}", TASKS_UNIT)
    if how == "restart":
        systemctl("restart", "offerd-slave")
    else:
        systemctl("kill", "-s", "KILL", "offerd-slave")
    wait_new_slave(slave)
    assert pids(leaf(TASKS_UNIT, name)) == running
    assert framework.states(name) == [TaskState.RUNNING]
    gate.write_text("go\n")
    assert framework.wait_end(name).state is TaskState.FINISHED
    assert finishes(framework, f"after-{how}")
    assert ended_once(framework, name)


def test_stopping_the_unit_of_tasks_ends_them_and_the_slave_starts_it_again(framework: Recorder) -> None:
    slave = main_pid("offerd-slave")
    start(framework, "doomed", FOR_EVER, TASKS_UNIT)
    systemctl("stop", "offerd-tasks")
    assert not TASKS_UNIT.exists()
    # Where no task can run no slave offers anything.
    assert prop("offerd-slave", "ActiveState") == "inactive"
    systemctl("start", "offerd-slave")
    wait_new_slave(slave)
    assert framework.wait_end("doomed").state in (TaskState.FAILED, TaskState.LOST)
    assert finishes(framework, "after-stop")
    assert ended_once(framework, "doomed")


def test_a_keeper_that_is_killed_is_replaced_and_tasks_run_again(framework: Recorder) -> None:
    slave, keeper = main_pid("offerd-slave"), main_pid("offerd-tasks")
    start(framework, "lost", FOR_EVER, TASKS_UNIT)
    os.kill(keeper, signal.SIGKILL)
    wait_new_slave(slave)
    assert main_pid("offerd-tasks") not in (0, keeper)
    assert framework.wait_end("lost").state in (TaskState.FAILED, TaskState.LOST)
    assert finishes(framework, "after-keeper")
    assert ended_once(framework, "lost")


# -- without root ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ada(framework: Recorder) -> User:
    """A user; the host's own slave is stopped to make room for the user's."""
    systemctl("stop", "offerd-slave")
    return User("ada")


SLAVE = ("offerd", "slave", "--master", MASTER, "--insecure", "--http-port", "0", "--isolation", "cgroups")


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of output of a slave that does not start."""
    assert done.returncode not in (0, 124)
    return done.stderr.splitlines()[-1]


def test_a_user_learns_in_one_sentence_what_the_slave_needs(ada: User) -> None:
    assert "systemd-run --user --scope -p Delegate=yes offerd slave" in refusal(ada.run(*SLAVE))
    # By default systemd delegates cpu, memory and pids to users.
    line = refusal(ada.run(*ada.in_scope("no-io", *SLAVE, "--io-weight")))
    assert "has no controller io, which an option of this slave needs; have systemd delegate" in line
    ada.delegate("memory pids")
    line = refusal(ada.run(*ada.in_scope("no-cpu", *SLAVE)))
    assert "has no controller cpu" in line
    assert "have systemd delegate `cpu cpuset io memory pids`" in line
    findings = json.loads(ada.run(*ada.in_scope("doctor", "offerd", "doctor", "--json")).stdout)
    (delegation,) = (each for each in findings["checks"] if each["check"] == "delegation")
    assert not delegation["ok"]
    assert "has no controller cpu" in delegation["found"]
    assert "Delegate=" in delegation["mend"]


def test_a_users_slave_enforces_limits_and_leaves_nothing(ada: User) -> None:
    ada.delegate("cpu cpuset io memory pids")
    scope = ada.scope("offerd")
    slave = ada.begin(*ada.in_scope("offerd", *SLAVE, "--cpu-quota", "--io-weight"))
    try:
        with recorder() as framework:
            framework.run("held", FOR_EVER, cpus=0.5, mem="40M", limit_s=None)
            framework.wait("held", TaskState.RUNNING)
            cgroup = leaf(scope, "held")
            limits = {
                name: (cgroup / name).read_text().strip()
                for name in ("memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max")
            }
            assert limits == {
                "memory.max": str(40 << 20),
                "memory.swap.max": "0",
                "cpu.weight": "50",
                "cpu.max": "50000 100000",
                "pids.max": "1024",
            }
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids(cgroup)} == {ada.uid}
            framework.run("greedy", HOG, mem="32M", limit_s=None)
            status = framework.wait_end("greedy")
            assert (status.reason, status.limit) == (Reason.LIMIT_EXCEEDED, f"memory.max={32 << 20}")
            assert framework.states("held") == [TaskState.RUNNING]
            framework.driver.kill_task(TaskID("held"))
            assert framework.wait_end("held").state is TaskState.KILLED
            assert not cgroup.exists()
        wait_until(lambda: not list(scope.glob("offerd.slice/*/executor")), "no containers", PATIENCE_S)
    finally:
        slave.terminate()
        slave.wait(PATIENCE_S)
    wait_until(lambda: not scope.exists(), "nothing is left of the scope", PATIENCE_S)
    assert ada.processes() == []


def times_back() -> int:
    """How often a slave has come back to the master with a task."""
    said = run("journalctl", "--no-pager", "-o", "cat", "-u", "offerd-master")
    return said.count("is back with 1 tasks")


def test_a_users_slave_in_another_scope_adopts_its_tasks(ada: User) -> None:
    ada.delegate("cpu memory pids")
    gate, scope = ada.home / "gate", ada.scope("first")
    os.mkfifo(gate)
    os.chown(gate, ada.uid, ada.uid)
    first = ada.begin(*ada.in_scope("first", *SLAVE))
    with recorder() as framework:
        running = start(framework, "kept", f"read word <{gate}", scope)
        before = times_back()
        first.terminate()
        assert first.wait(PATIENCE_S) == 0
        second = ada.begin(*ada.in_scope("second", *SLAVE))
        try:
            wait_until(lambda: times_back() > before, "the user's slave is back", PATIENCE_S)
            # It runs where its executor is, in the first scope.
            framework.run("greedy", HOG, mem="32M", limit_s=None)
            status = framework.wait_end("greedy")
            assert (status.reason, status.limit) == (Reason.LIMIT_EXCEEDED, f"memory.max={32 << 20}")
            assert pids(leaf(scope, "kept")) == running
            gate.write_text("go\n")
            assert framework.wait_end("kept").state is TaskState.FINISHED
            assert ended_once(framework, "kept", "greedy")
        finally:
            framework.driver.stop()
            wait_until(lambda: not scope.exists(), "nothing is left of the first scope", PATIENCE_S)
            second.terminate()
            second.wait(PATIENCE_S)
    wait_until(lambda: not ada.processes(), "nothing is left", PATIENCE_S)


# -- the end --------------------------------------------------------------------------------------------------------------


def test_the_documented_removal_leaves_nothing(framework: Recorder) -> None:
    systemctl("start", "offerd-slave")
    wait_new_slave(0)
    start(framework, "last", FOR_EVER, TASKS_UNIT)
    stop_slave, stop_master, *rest = commands("deploy/README.md", after="To remove everything:")
    for command in (stop_slave, stop_master):
        run("bash", "-c", command)
    assert not TASKS_UNIT.exists()
    assert [prop(unit, "ActiveState") for unit in UNITS] == ["inactive"] * 3
    unbind()
    for command in rest:
        run("bash", "-c", command)
    assert [prop(unit, "LoadState") for unit in UNITS] == ["not-found"] * 3
    places = ("etc", "opt", "usr/local", "var/lib")
    assert [path for place in places for path in Path("/", place).rglob("*offerd*")] == []
    assert subprocess.run(["id", "offerd"], capture_output=True, check=False).returncode == 1
