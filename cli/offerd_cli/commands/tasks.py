"""`offerd tasks`: what runs, and with `--all` what ran."""

from __future__ import annotations

import click

from offerd_cli.options import json_option, master_option
from offerd_cli.screen import say


@click.command(short_help="List tasks.")
@master_option
@click.option(
    "--all", "ended", is_flag=True, help="Also those that have ended, as far as the master remembers."
)
@click.option("--framework", default="", metavar="ID", help="Only those of one framework, by id or name.")
@json_option
def command(*, master: str, ended: bool, framework: str, as_json: bool) -> None:
    """List the tasks that run, or with --all also those that ended and why."""
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render

    with OperatorClient(master) as client:
        tasks = [
            task
            for task in client.tasks(ended=ended)
            if not framework or framework in (task.framework_id, task.framework_name)
        ]
    if as_json:
        documents.print_document(
            {"tasks": [documents.task_document(task) for task in tasks], "only_of": client.shown_owner}
        )
        return
    if tasks:
        render.print_table(render.console(), render.tasks_table(tasks))
    else:
        say("no tasks" + ("" if ended else " are running; --all lists those that have ended"))
    render.print_owner(client.shown_owner)
