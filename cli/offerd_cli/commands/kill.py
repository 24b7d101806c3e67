"""`offerd kill`: ends tasks, whoever's they are."""

from __future__ import annotations

import click

from offerd_cli.options import master_option
from offerd_cli.screen import say


@click.command(short_help="End tasks.")
@master_option
@click.option(
    "--framework", default="", metavar="ID", help="Whose task, where several frameworks have one of this id."
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def command(*, master: str, framework: str, tasks: tuple[str, ...]) -> int:
    """End tasks: TERM, a grace, then KILL. Their frameworks hear TASK_KILLED."""
    from offerd.errors import OfferdError
    from offerd.ids import FrameworkID, TaskID
    from offerd.operator import OperatorClient

    status = 0
    with OperatorClient(master) as client:
        client.cluster()  # no master at all is said once, not once per task
        for task in tasks:
            try:
                client.kill_task(TaskID(task), FrameworkID(framework))
            except OfferdError as error:
                say(f"offerd: {task}: {error}")
                status = 1
    return status
