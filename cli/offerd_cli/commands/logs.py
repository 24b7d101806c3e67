"""`offerd logs`: what a task has written."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Print what a task has written.")
@master_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--stderr", "wants_stderr", is_flag=True, help="Its stderr instead of its stdout.")
@click.option(
    "--framework", default="", metavar="ID", help="Whose task, where several frameworks have one of this id."
)
@click.argument("task")
def command(*, master: str, follow: bool, wants_stderr: bool, framework: str, task: str) -> int:
    """Print what TASK has written to stdout so far, straight from its slave. Of a log only the end is kept: status 1 if that is
    less than an ended task has written.

    The log of a Python call is its executor's, with what other calls have printed.
    """
    from offerd_cli.reading import print_log

    return print_log(master, task, framework, "stderr" if wants_stderr else "stdout", follow=follow)
