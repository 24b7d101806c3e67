"""`offerd kill`: end tasks, or a whole framework; operators may end anybody's, others their own."""

from __future__ import annotations

import click

from offerd_cli.options import master_option
from offerd_cli.screen import about, say


@click.command(short_help="End tasks, or a whole framework.")
@click.option(
    "--framework",
    default="",
    metavar="ID",
    help="Framework (id or name) of the TASK, if several have this id; without a TASK, the framework to end.  [default: any]",
)
@master_option
@click.argument("tasks", nargs=-1, metavar="TASK...")
def command(*, master: str, framework: str, tasks: tuple[str, ...]) -> int:
    """End tasks, or a whole framework.

    \b
    offerd kill task-17
    offerd kill --framework wordcount

    A task gets TERM and, after the operator's grace, KILL; its framework gets TASK_KILLED. Without a TASK, --framework ends a
    whole framework and all its tasks, whether or not it has a scheduler.
    """
    from offerd.errors import BadInput, OfferdError
    from offerd.ids import FrameworkID, TaskID
    from offerd.operator import OperatorClient

    if not tasks and not framework:
        raise BadInput("name the tasks to end, or the framework with --framework")
    status = 0
    with OperatorClient(master) as client:
        if not tasks:
            client.end_framework(framework)
        client.cluster()  # a missing master is reported once, not once per task
        for task in tasks:
            try:
                client.kill_task(TaskID(task), FrameworkID(framework))
            except OfferdError as error:
                say(f"offerd: {about(task, error)}")
                status = 1
    return status
