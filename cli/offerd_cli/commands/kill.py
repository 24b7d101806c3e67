"""`offerd kill`: ends tasks, or a whole framework; operators anybody's, others their own."""

from __future__ import annotations

import click

from offerd_cli.options import master_option
from offerd_cli.screen import say


@click.command(short_help="End tasks, or a whole framework.")
@master_option
@click.option(
    "--framework",
    default="",
    metavar="ID",
    help="Whose task, where several frameworks have one of this id; without a TASK, end this framework (id or name).",
)
@click.argument("tasks", nargs=-1, metavar="TASK...")
def command(*, master: str, framework: str, tasks: tuple[str, ...]) -> int:
    """End tasks: TERM, the operator's grace, then KILL. Their frameworks hear TASK_KILLED.

    `offerd kill --framework ID` ends a whole framework, all that runs of it, whether or not it has a scheduler.
    """
    from offerd.errors import BadInput, OfferdError
    from offerd.ids import FrameworkID, TaskID
    from offerd.operator import OperatorClient

    if not tasks and not framework:
        raise BadInput("name the tasks to end, or with --framework the framework")
    status = 0
    with OperatorClient(master) as client:
        if not tasks:
            client.end_framework(framework)
        client.cluster()  # no master at all is said once, not once per task
        for task in tasks:
            try:
                client.kill_task(TaskID(task), FrameworkID(framework))
            except OfferdError as error:
                say(f"offerd: {task}: {error}")
                status = 1
    return status
