"""An executor belongs to a user: a framework that registers with another user gets another executor."""

from __future__ import annotations

import os
import pwd

import msgspec
import pytest

from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.messages import Reason, TaskState
from offerd_slave import users
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.settings import SlaveSettings

ROOT = msgspec.structs.replace(FRAMEWORK, user="root")
NOBODY = msgspec.structs.replace(FRAMEWORK, user="nobody")
WITH_DEFAULT = SlaveSettings(sync_pause_per_task_s=0.0, confirm_pause_s=0.0, default_user="nobody")


def launched_as(bench: Bench) -> list[str]:
    return [launch.framework.user for launch in bench.asked_for(act.LaunchContainer)]


def test_a_framework_that_comes_back_as_another_user_gets_an_executor_of_that_user() -> None:
    bench = Bench()
    bench.register()
    bench.from_master(m.RunTasks(ROOT, COMMAND, [task("old")]))
    old = bench.register_executor()
    bench.from_master(m.RunTasks(NOBODY, COMMAND, [task("new")]))
    assert launched_as(bench) == ["root", "nobody"]
    assert len(bench.sent_to_executors(m.Shutdown)) == 1
    assert [
        each.container_id != old for (_, name), each in bench.core.state.tasks.items() if name == "new"
    ] == [True]
    bench.event(ev.ContainerDestroyed(old))
    assert bench.statuses() == [("old", TaskState.KILLED, Reason.USER_CHANGED)]


def test_an_executor_of_another_user_that_has_not_registered_yet_is_ended_too() -> None:
    bench = Bench()
    bench.register()
    bench.from_master(m.RunTasks(ROOT, COMMAND, [task("old")]))
    old = bench.container_id
    bench.from_master(m.RunTasks(NOBODY, COMMAND, [task("new")]))
    assert [each.container_id for each in bench.asked_for(act.DestroyContainer)] == [old]
    assert launched_as(bench) == ["root", "nobody"]


def test_the_same_user_keeps_the_executor_even_if_it_is_the_slaves_default() -> None:
    bench = Bench(settings=WITH_DEFAULT)
    bench.register()
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task("a")]))
    bench.from_master(m.RunTasks(NOBODY, COMMAND, [task("b")]))
    assert launched_as(bench) == ["nobody"]


def test_a_framework_without_a_user_runs_as_the_default_which_the_master_learns() -> None:
    bench = Bench(settings=WITH_DEFAULT)
    bench.register()
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task()]))
    bench.clear()
    bench.from_master(m.NotRegistered())
    (registration,) = [sent for sent in bench.sent if isinstance(sent, m.RegisterSlave)]
    assert [executor.framework.user for executor in registration.executors] == ["nobody"]


@pytest.mark.parametrize(
    ("user", "ends"), [("nobody", {"a"}), ("", {"a"}), ("root", {"b"}), (None, {"a", "b"})]
)
def test_a_master_ends_executors_of_one_user_or_of_all(user: str | None, ends: set[str]) -> None:
    bench = Bench(settings=WITH_DEFAULT)
    bench.register()
    other = m.ExecutorInfo(COMMAND.executor_id, module="other")
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task("a")]))
    bench.from_master(m.RunTasks(ROOT, msgspec.structs.replace(other, executor_id="other"), [task("b")]))
    bench.clear()
    bench.from_master(m.ShutdownFramework(FRAMEWORK.framework_id, user=user, reason=Reason.NOT_AUTHORIZED))
    for destroy in bench.asked_for(act.DestroyContainer):
        bench.event(ev.ContainerDestroyed(destroy.container_id))
    assert {name for name, _, reason in bench.statuses() if reason == Reason.NOT_AUTHORIZED} == ends


# -- users of the host ----------------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@needs_root
def test_a_slave_run_by_root_has_nobody_as_default_user_unless_root_is_named() -> None:
    assert users.default("") == "nobody"
    assert users.default("root") == "root"
    assert users.look_up(users.default("root")).credentials is None


@needs_root
def test_a_default_user_that_does_not_exist_is_refused_at_the_start() -> None:
    with pytest.raises(users.WrongUser, match="--default-user: user 'no-such-user' does not exist"):
        users.default("no-such-user")


def test_root_by_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    root = pwd.getpwnam("root")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: root)
    with pytest.raises(users.WrongUser, match="root by another name"):
        users.look_up("toor")


def test_a_slave_without_root_has_its_own_user_as_default(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    assert users.default("") == "nobody"
    assert users.look_up("nobody").credentials is None
    with pytest.raises(users.WrongUser, match="runs as 'nobody'"):
        users.default("root")
