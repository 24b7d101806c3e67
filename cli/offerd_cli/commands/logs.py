"""`offerd logs`: the output of a task."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Print the output of a task.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the task has ended.")
@click.option("--stderr", "wants_stderr", is_flag=True, help="Print stderr instead of stdout.")
@click.option(
    "--framework",
    default="",
    metavar="ID",
    help="Framework (id or name) of the TASK, if several have a task with this id.  [default: any]",
)
@master_option
@click.argument("task")
def command(*, master: str, follow: bool, wants_stderr: bool, framework: str, task: str) -> int:
    """Print the output of TASK so far, directly from its slave.

    \b
    offerd logs task-17
    offerd logs -f --stderr task-17

    Only the end of a long log is kept. If that is not all that an ended task has written, the exit status is 1.

    The log of a Python call is its executor's, with the output of other calls.
    """
    from offerd_cli.reading import print_log

    return print_log(master, task, framework, "stderr" if wants_stderr else "stdout", follow=follow)
