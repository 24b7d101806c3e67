"""`offerd tasks --watch`: the running tasks as they come and go, from what the master answers to followers."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Group
from rich.live import Live
from rich.text import Text

from offerd.core.replica import Replica
from offerd.errors import MasterUnreachable
from offerd.operator import OperatorClient
from offerd.operator_messages import TaskSummary
from offerd.protocol.change_messages import TaskNow
from offerd_cli import render
from offerd_cli.screen import logged_to, one_line

WAIT_S = 1.0
"""The table is drawn again at least this often, as tasks grow older."""


def summaries(replica: Replica) -> Iterator[TaskSummary]:
    """The open tasks, as a listing has them."""
    users = {
        (slave.slave_id, executor.framework_id, executor.executor_id): executor.user
        for slave in replica.slaves.values()
        for executor in slave.executors
    }
    for task in replica.tasks.values():
        yield _summary(replica, task, users.get((task.slave_id, task.framework_id, task.executor_id), ""))


def _summary(replica: Replica, task: TaskNow, user: str) -> TaskSummary:
    framework = replica.framework_infos.get(task.framework_id)
    slave = replica.slave_infos.get(task.slave_id)
    return TaskSummary(
        task.task_id,
        task.framework_id,
        task.framework_id if framework is None else framework.name,
        task.slave_id,
        "" if slave is None else slave.hostname,
        task.executor_id,
        task.state,
        name=task.name,
        resources=task.resources,
        time_limit_s=task.time_limit_s,
        message=task.message,
        launched_s=max(replica.now - task.launched_at, 0.0),
        ran_s=0.0 if task.running_since is None else max(replica.now - task.running_since, 0.0),
        user=user,
    )


class LiveTasks:
    """The table on the whole screen, the latest launch first. A note stands above it until the next answer."""

    def __init__(self, live: Live, is_wanted: Callable[[TaskSummary], bool], height: int) -> None:
        self._live = live
        self._is_wanted = is_wanted
        self._height = height
        self._shown: list[TaskSummary] = []
        self._head = Text()

    def show(self, replica: Replica) -> None:
        found = [task for task in summaries(replica) if self._is_wanted(task)]
        states = Counter(task.state for task in found)
        counts = ", ".join(f"{number} {render.state_text(state).plain}" for state, number in states.items())
        self._shown = heapq.nsmallest(
            max(1, self._height - 4), found, key=lambda task: (task.launched_s, task.task_id)
        )
        left_out = len(found) - len(self._shown)
        more = f"; the latest {len(self._shown)} are shown" if left_out else ""
        self._head = Text(f"{counts or 'no tasks are running'}{more}", style="bold")
        self._live.update(Group(self._head, render.tasks_table(self._shown)), refresh=True)

    def note(self, text: str) -> None:
        line = Text(one_line(f"offerd tasks: {text}"), style="yellow", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(line, render.tasks_table(self._shown)), refresh=True)


def watch_tasks(master: str, is_wanted: Callable[[TaskSummary], bool]) -> None:
    """Show them until Ctrl-C, also with a new master."""
    out, replica = render.console(), Replica()
    with OperatorClient(master) as client:
        replica.apply(client.changes(replica, wait_s=0.0))  # without a master this ends at once, with a line
        with Live(Text(), console=out, screen=True, auto_refresh=False) as live:
            screen = LiveTasks(live, is_wanted, out.height)
            with logged_to(screen):
                client.tries_on = True
                while True:
                    if replica.is_current:
                        screen.show(replica)
                    try:
                        replica.apply(client.changes(replica, wait_s=WAIT_S))
                    except MasterUnreachable:
                        continue
