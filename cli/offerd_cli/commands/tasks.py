"""`offerd tasks`: running tasks, and with `--all` also ended ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, json_option, master_option
from offerd_cli.screen import say

if TYPE_CHECKING:
    from offerd.operator import OperatorClient
    from offerd.operator_messages import TaskSummary


@click.command(short_help="List tasks, or show all details of one.")
@click.option(
    "--all",
    "ended",
    is_flag=True,
    help="List ended tasks, too, as far back as the master remembers.",
)
@click.option(
    "--ended",
    "past",
    is_flag=True,
    help="List ended tasks only, from the history that `offerd web` keeps.",
)
@click.option(
    "--since",
    type=DURATION,
    default="1d",
    show_default=True,
    help="Time to look back with --ended, for example 2d.",
)
@click.option(
    "--framework",
    default="",
    metavar="ID",
    help="Show tasks of one framework only, by its id or name.  [default: all]",
)
@click.option("--host", default="", metavar="HOST", help="Show tasks on this host only.  [default: all]")
@click.option("--user", default="", metavar="USER", help="Show tasks of this user only.  [default: all]")
@click.option("--watch", is_flag=True, help="Show the running tasks live, until Ctrl-C.")
@json_option
@master_option
@click.argument("task", required=False, default="")
def command(
    *,
    master: str,
    ended: bool,
    past: bool,
    since: float,
    framework: str,
    host: str,
    user: str,
    watch: bool,
    task: str,
    as_json: bool,
) -> None:
    """List the running tasks; or show all details of one TASK, even if it has ended.

    \b
    offerd tasks
    offerd tasks --all --user alice
    offerd tasks --ended --since 2d
    offerd tasks --watch
    offerd tasks task-17

    The details of a task are its user, where and since when it runs, what it uses of what it asked for, and why it ended.
    """
    if watch and (task or ended or past or as_json):
        raise BadInput(
            "--watch shows running tasks on a terminal; leave out TASK, --all, --ended and --json, or --watch"
        )
    if past and (task or ended):
        raise BadInput("--ended lists tasks from the history; leave out TASK and --all, or --ended")
    if past:
        from offerd_cli.past_listings import print_ended_tasks

        print_ended_tasks(master, since, framework=framework, slave=host, user=user, as_json=as_json)
        return
    if task:
        _show(master, task, framework, as_json=as_json)
        return
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render

    def is_wanted(each: TaskSummary) -> bool:
        return (
            (not framework or framework in (each.framework_id, each.framework_name))
            and host in ("", each.hostname, each.slave_id)
            and user in ("", each.user)
        )

    if watch:
        from offerd_cli.task_watch import watch_tasks

        watch_tasks(master, is_wanted)
        return
    with OperatorClient(master) as client:
        tasks = [each for each in client.tasks(ended=ended) if is_wanted(each)]
        unknown = [] if tasks or as_json else list(_unknown(client, framework, host))
    if as_json:
        documents.print_document(
            {"tasks": [documents.task_document(each) for each in tasks], "only_of": client.shown_owner}
        )
        return
    if tasks:
        render.print_tasks(render.console(), tasks)
    else:
        such = "such " if framework or host or user else ""
        say(f"no {such}tasks" + ("" if ended else " are running; --all lists those that have ended"))
        for line in unknown:
            say(line)
    render.print_owner(client.shown_owner)


def _unknown(client: OperatorClient, framework: str, host: str) -> Iterator[str]:
    """A line on each name that the master does not know. It keeps no list of users."""
    known = (framework in (each.framework_id, each.name) for each in client.frameworks(ended=True))
    if framework and not any(known):
        yield f"no framework {framework} is known; `offerd frameworks --all` lists them"
    if host and not any(host in (each.info.slave_id, each.info.hostname) for each in client.slaves()):
        yield f"no slave {host} is known; `offerd slaves` lists them"


def _show(master: str, task: str, framework: str, *, as_json: bool) -> None:
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render, task_details
    from offerd_cli.reading import find_task

    with OperatorClient(master) as client:
        found = find_task(client, task, framework)
        now = None if found.state.terminal else task_details.measured(client, found)
    if as_json:
        usage = task_details.usage_document(found, now)
        documents.print_document({**documents.task_document(found), "usage": usage})
    else:
        task_details.print_task(render.console(), found, now)
