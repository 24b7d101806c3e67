"""Who runs an executor is part of what it is: a framework that comes as another user gets another one."""

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
    old = bench.hello()
    bench.from_master(m.RunTasks(NOBODY, COMMAND, [task("new")]))
    assert launched_as(bench) == ["root", "nobody"]
    assert len(bench.told_executors(m.Shutdown)) == 1
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


def test_the_same_user_keeps_the_executor_also_where_it_is_the_slaves_word() -> None:
    bench = Bench(settings=WITH_DEFAULT)
    bench.register()
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task("a")]))
    bench.from_master(m.RunTasks(NOBODY, COMMAND, [task("b")]))
    assert launched_as(bench) == ["nobody"]


def test_who_names_no_user_runs_as_the_slave_says_and_the_master_hears_as_whom() -> None:
    bench = Bench(settings=WITH_DEFAULT)
    bench.register()
    bench.from_master(m.RunTasks(FRAMEWORK, COMMAND, [task()]))
    bench.clear()
    bench.from_master(m.NotRegistered())
    (hello,) = [sent for sent in bench.sent if isinstance(sent, m.RegisterSlave)]
    assert [executor.framework.user for executor in hello.executors] == ["nobody"]


@pytest.mark.parametrize(
    ("user", "ends"), [("nobody", {"a"}), ("", {"a"}), ("root", {"b"}), (None, {"a", "b"})]
)
def test_a_master_ends_what_runs_as_one_user_or_as_any(user: str | None, ends: set[str]) -> None:
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


# -- looked up in the host ----------------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@needs_root
def test_a_slave_of_roots_runs_what_names_no_user_as_nobody_and_as_root_only_if_told_so() -> None:
    assert users.default("") == "nobody"
    assert users.default("root") == "root"
    assert users.look_up(users.default("root")).credentials is None


@needs_root
def test_a_default_user_that_does_not_exist_is_refused_at_the_start() -> None:
    with pytest.raises(users.WrongUser, match="--default-user: user 'no-such-user' does not exist"):
        users.default("no-such-user")


def test_root_by_another_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    root = pwd.getpwnam("root")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: root)
    with pytest.raises(users.WrongUser, match="root by another name"):
        users.look_up("toor")


def test_a_slave_of_an_accounts_own_runs_what_names_no_user_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    assert users.default("") == "nobody"
    assert users.look_up("nobody").credentials is None
    with pytest.raises(users.WrongUser, match="runs as 'nobody'"):
        users.default("root")
