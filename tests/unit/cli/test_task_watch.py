"""`offerd tasks --watch` shows what a follower of the master knows."""

from __future__ import annotations

import io

from rich.console import Console
from rich.live import Live

from offerd.core.replica import Replica
from offerd.ids import ContainerID, ExecutorID, FrameworkID, SlaveID, TaskID
from offerd.messages import FrameworkInfo, SlaveInfo, TaskState
from offerd.protocol.change_messages import Changes, ExecutorNow, FrameworkNow, MasterNow, SlaveNow, TaskNow
from offerd.resources import Resources
from offerd_cli import task_watch

ONE_CPU = Resources.of(cpus=1, mem="64M")


def replica(tasks: int) -> Replica:
    """Tasks that were launched one after another, a second apart, the last one just now."""
    framework_id, slave_id, executor_id = FrameworkID("F"), SlaveID("S"), ExecutorID("command")
    known = Replica()
    open_tasks = [
        TaskNow(
            TaskID(f"task-{number}"), framework_id, slave_id, executor_id, TaskState.RUNNING, "", ONE_CPU, None, True,
            float(number), float(number), ContainerID("C"), True, False,
        )
        for number in range(tasks)
    ]  # fmt: skip
    slave = SlaveNow(
        slave_id, "active", 0.0, True, executors=[ExecutorNow(framework_id, executor_id, user="alice")]
    )
    known.apply(
        Changes(
            "M/1", 1, 0, float(tasks), MasterNow("M", "0", "drf", 0.0), is_reset=True, tasks=open_tasks, slaves=[slave],
            slave_infos=[SlaveInfo("alpha", ONE_CPU, slave_id=slave_id)],
            frameworks=[FrameworkNow(framework_id, "active", 0.0)],
            framework_infos=[FrameworkInfo("words", framework_id=framework_id)],
        )
    )  # fmt: skip
    return known


def test_a_task_has_the_names_of_its_framework_and_host_and_its_user() -> None:
    (task,) = task_watch.summaries(replica(1))
    assert (task.framework_name, task.hostname, task.user, task.ran_s) == ("words", "alpha", "alice", 1.0)


def test_the_latest_tasks_are_shown_and_all_are_counted() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=120, height=10)
    with Live(console=console, auto_refresh=False) as live:
        task_watch.LiveTasks(live, lambda task: task.task_id != "task-98", console.height).show(replica(100))
    text = screen.getvalue()
    assert "99 running; the latest 6 are shown" in text
    assert "task-99" in text
    assert "task-98" not in text
    assert "task-10" not in text
