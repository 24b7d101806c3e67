"""Rights and graces with real daemons: tasks run no longer, and as no other user, than the operator allows."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import readable_python
from helpers.cli import environment, offerd, wait_until, words
from helpers.keyring import TABLES, Keyring
from helpers.recorder import COMMAND, Recorder
from offerd.errors import FrameworkError
from offerd.ids import TaskID
from offerd.messages import ExecutorInfo, Reason, TaskState
from offerd_cli.local_cluster import LocalCluster

SECONDS = 15.0
"""How long a task may still run that an operator has ended, on a busy machine."""
NOBODY = pwd.getpwnam("nobody").pw_uid
IGNORES_TERM = "trap '' TERM; while :; do sleep 0.1; done"
FOREVER_S = 2e6
US = pwd.getpwuid(os.geteuid()).pw_name
"""The only user as which a slave without root runs tasks."""
AUTHORIZED = TABLES | {"mallory": f'roles = ["*"]\nusers = ["nobody", "root", "{US}"]'}
NO_ROOT = TABLES | {"mallory": 'roles = ["*"]\nusers = ["nobody"]'}


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys"), AUTHORIZED)


@pytest.fixture(scope="module")
def for_nobody() -> Iterator[ExecutorInfo]:
    """An executor whose Python nobody can read; pytest's own directories are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="offerd-python-") as directory:
        executor = readable_python.command_executor(Path(directory))
        if executor is None:
            pytest.skip("needs a Python that other users may read, or Debian's of the same version")
        yield executor


@pytest.fixture
def cluster(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """One slave with the key of `host`, whose longest grace is short; the tests themselves ask as `ops`."""
    keyring.authorize(AUTHORIZED)
    for name, value in keyring.environment("ops").items():
        monkeypatch.setenv(name, value)
    slave_words = ("--key", keyring.file("host"), "--master-key", keyring.public("master"))
    running = LocalCluster(
        1, cpus="2", mem="1G", isolation="noop",
        master_options=(*keyring.master_words(), "--operator-grace", "1s"),
        slave_options=(*slave_words, "--max-kill-grace", "2s", "--kill-grace", "1s"),
    )  # fmt: skip
    with running:
        yield running


def framework_of(cluster: LocalCluster, keyring: Keyring, name: str, **info: Any) -> Recorder:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in keyring.environment(name).items():
            patch.setenv(variable, value)
        return Recorder(cluster.address, **info)


def authorize(cluster: LocalCluster, keyring: Keyring, tables: dict[str, str]) -> None:
    keyring.authorize(tables)
    cluster.master.signal(signal.SIGHUP)


def as_root(cluster: LocalCluster, keyring: Keyring) -> Recorder:
    """Mallory's framework, a task of which runs as root."""
    framework = framework_of(cluster, keyring, "mallory", user="root", failover_timeout_s=60.0)
    framework.driver.start()
    framework.run("as-root", IGNORES_TERM)
    framework.wait("as-root", TaskState.RUNNING)
    assert owners_of_executors(cluster) == {0}
    return framework


def owners_of_executors(cluster: LocalCluster) -> set[int]:
    """The uids of executors."""
    mark = f"OFFERD_SANDBOX={cluster.base}".encode()
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if mark in (process / "environ").read_bytes():
                    found.add(process.stat().st_uid)
            except OSError:
                continue
    return found


def test_a_grace_of_weeks_does_not_delay_time_limits_kills_and_drains(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    patient = ExecutorInfo(COMMAND.executor_id, module=COMMAND.module, shutdown_grace_s=FOREVER_S)
    with framework_of(cluster, keyring, "mallory", executors=(patient,)) as framework:
        framework.run("limited", IGNORES_TERM, limit_s=1.0, kill_grace_s=FOREVER_S)
        framework.run("killed", IGNORES_TERM, kill_grace_s=FOREVER_S)
        framework.wait("killed", TaskState.RUNNING)
        framework.driver.kill_task(TaskID("killed"), FOREVER_S)
        assert framework.wait_end("limited", SECONDS).reason == Reason.TASK_TIMEOUT
        assert framework.wait_end("killed", SECONDS).state is TaskState.KILLED
        framework.run("by-an-operator", IGNORES_TERM, kill_grace_s=FOREVER_S)
        framework.wait("by-an-operator", TaskState.RUNNING)
        assert offerd(cluster, "kill", "by-an-operator").returncode == 0
        framework.wait_end("by-an-operator", SECONDS)
        framework.run("drained", IGNORES_TERM)
        framework.wait("drained", TaskState.RUNNING)
        assert offerd(cluster, "drain", "--kill", "slave-1").returncode == 0
        assert framework.wait_end("drained", SECONDS).reason == Reason.SLAVE_DRAINING


def test_a_grace_of_weeks_does_not_turn_a_long_task_into_a_short_one(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with framework_of(cluster, keyring, "mallory") as framework:
        framework.run("long", "true", cpus=2, limit_s=59.5, kill_grace_s=FOREVER_S)
        assert framework.wait_end("long").reason == Reason.LONG_TASK_CAP


def test_a_grace_that_overflows_a_wait_of_the_kernel_ends_no_executor(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with framework_of(cluster, keyring, "mallory") as framework:
        framework.run("t", IGNORES_TERM, kill_grace_s=1e9)
        framework.run("neighbour", "sleep 60")
        framework.wait("neighbour", TaskState.RUNNING)
        framework.wait("t", TaskState.RUNNING)
        framework.driver.kill_task(TaskID("t"), 1e9)
        assert framework.wait_end("t", SECONDS).state is TaskState.KILLED
        assert framework.states("neighbour") == [TaskState.RUNNING]
        assert framework.lost_executors == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only a slave that runs as root runs tasks as root")
def test_removing_a_user_right_ends_executors_and_scheduler_at_once(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    framework = as_root(cluster, keyring)
    authorize(cluster, keyring, NO_ROOT)
    wait_until(lambda: owners_of_executors(cluster) == set(), "the executor of root's to end", SECONDS)
    with pytest.raises(FrameworkError, match="user root"):
        framework.driver.join(SECONDS)


@pytest.mark.root
def test_a_framework_that_lost_a_user_right_can_return_with_another_user(
    cluster: LocalCluster, keyring: Keyring, for_nobody: ExecutorInfo
) -> None:
    framework = as_root(cluster, keyring)
    authorize(cluster, keyring, NO_ROOT)
    with pytest.raises(FrameworkError, match="user root"):
        framework.driver.join(SECONDS)
    framework_id = framework.driver.framework_id
    with framework_of(
        cluster, keyring, "mallory", user="nobody", executors=(for_nobody,), framework_id=framework_id
    ) as again:
        again.run("as-nobody", "sleep 60")
        again.wait("as-nobody", TaskState.RUNNING)
        wait_until(lambda: owners_of_executors(cluster) == {NOBODY}, "only nobody's to be left", SECONDS)


@pytest.mark.root
def test_a_registration_with_another_user_ends_executors_of_the_old_one(
    cluster: LocalCluster, keyring: Keyring, for_nobody: ExecutorInfo
) -> None:
    first = as_root(cluster, keyring)
    framework_id = first.driver.framework_id
    with framework_of(
        cluster, keyring, "mallory", user="nobody", executors=(for_nobody,), framework_id=framework_id
    ) as second:
        second.run("as-nobody", "sleep 60")
        second.wait("as-nobody", TaskState.RUNNING)
        wait_until(lambda: owners_of_executors(cluster) == {NOBODY}, "the old executor to end", SECONDS)
    with pytest.raises(FrameworkError, match="another scheduler"):
        first.driver.join(SECONDS)


def test_removing_a_key_ends_tasks_within_seconds_even_without_their_scheduler(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with framework_of(cluster, keyring, "mallory", failover_timeout_s=30 * 86_400.0) as framework:
        framework.run("t", IGNORES_TERM)
        framework.wait("t", TaskState.RUNNING)
        framework.driver.abort()
        authorize(cluster, keyring, TABLES)
        wait_until(lambda: owners_of_executors(cluster) == set(), "its executor to end", SECONDS)


# -- own tasks only -----------------------------------------------------------------------------------------------------


def offerd_as(
    keyring: Keyring, name: str, cluster: LocalCluster, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*arguments),
        env=environment(cluster, **keyring.environment(name)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_principal_without_operator_rights_sees_and_kills_only_its_own_tasks(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    with (
        framework_of(cluster, keyring, "mallory") as mallorys,
        framework_of(cluster, keyring, "alice", role="science") as alices,
    ):
        for framework, task in ((mallorys, "mallorys"), (alices, "alices"), (alices, "alices-other")):
            framework.run(task, "sleep 60")
            framework.wait(task, TaskState.RUNNING)
        theirs = str(mallorys.driver.framework_id)
        for command in ("status", "tasks", "frameworks"):
            shown = offerd_as(keyring, "alice", cluster, command)
            assert shown.returncode == 0, shown.stderr
            assert "only frameworks of alice" in shown.stderr
            exact = offerd_as(keyring, "alice", cluster, command, "--json")
            assert json.loads(exact.stdout)["only_of"] == "alice"
            assert alices.driver.framework_id in exact.stdout or command == "status"
            assert theirs not in exact.stdout + shown.stdout
        explained = offerd_as(keyring, "alice", cluster, "explain", str(alices.driver.framework_id))
        assert (explained.returncode, "fair share" in explained.stdout) == (0, True), explained.stderr
        assert offerd_as(keyring, "alice", cluster, "explain", theirs).returncode != 0
        for more in ((), ("--framework", theirs)):
            refused = offerd_as(keyring, "alice", cluster, "kill", "mallorys", *more)
            assert refused.returncode == 1, refused.stdout
        assert offerd_as(keyring, "alice", cluster, "kill", "--framework", theirs).returncode == 1
        assert offerd_as(keyring, "alice", cluster, "kill", "alices").returncode == 0
        assert alices.wait_end("alices", SECONDS).state is TaskState.KILLED
        assert mallorys.states("mallorys") == [TaskState.RUNNING]
        everything = offerd(cluster, "tasks", "--json")
        assert json.loads(everything.stdout)["only_of"] == ""
        assert theirs.encode() in everything.stdout


def test_an_operator_can_end_a_framework_without_a_scheduler_within_seconds(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    patient = ExecutorInfo(COMMAND.executor_id, module=COMMAND.module, shutdown_grace_s=FOREVER_S)
    with framework_of(
        cluster, keyring, "alice", role="science", executors=(patient,), failover_timeout_s=30 * 86_400.0
    ) as framework:
        framework.run("t", IGNORES_TERM, kill_grace_s=FOREVER_S)
        framework.wait("t", TaskState.RUNNING)
        framework.driver.abort()
    assert owners_of_executors(cluster) != set()
    ended = offerd_as(keyring, "alice", cluster, "kill", "--framework", "recorder")
    assert ended.returncode == 0, ended.stderr
    wait_until(lambda: owners_of_executors(cluster) == set(), "its executor to end", SECONDS)
    again = offerd_as(keyring, "alice", cluster, "kill", "--framework", "recorder")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
