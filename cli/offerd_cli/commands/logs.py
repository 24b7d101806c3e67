"""`offerd logs`: what a task has written."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Print what a task has written.")
@click.option(
    "-f", "--follow", is_flag=True, help="Print what the task writes from now on, until it has ended."
)
@click.option("--stderr", "wants_stderr", is_flag=True, help="Print stderr instead of stdout.")
@click.option(
    "--framework",
    default="",
    metavar="ID",
    help="Framework (id or name) whose task it is, where several have one of this id.",
)
@master_option
@click.argument("task")
def command(*, master: str, follow: bool, wants_stderr: bool, framework: str, task: str) -> int:
    """Print what TASK has written so far, straight from its slave.

    \b
    offerd logs task-17
    offerd logs -f --stderr task-17

    Only the end of a long log is kept. The exit status is 1 if that is less than an ended task has written.

    The log of a Python call is that of its executor, with what other calls have printed.
    """
    from offerd_cli.reading import print_log

    return print_log(master, task, framework, "stderr" if wants_stderr else "stdout", follow=follow)
