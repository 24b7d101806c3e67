"""`offerd deactivate`: offer slaves no longer, until that is undone."""

from __future__ import annotations

import click

from offerd_cli.options import master_option
from offerd_cli.screen import say


@click.command(short_help="Stop offering slaves; their tasks go on.")
@click.option("--undo", is_flag=True, help="Offer the slaves again, as `offerd activate` does.")
@master_option
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(*, master: str, undo: bool, slaves: tuple[str, ...]) -> int:
    """Stop offering slaves, each named by its id or hostname; their tasks go on.

    \b
    offerd deactivate host7
    offerd activate host7    # undoes it

    A slave stays deactivated over its own restart and under a new master, until `offerd activate`.
    """
    from offerd.operator import OperatorClient
    from offerd_cli.draining import change_mode

    with OperatorClient(master) as client:
        obeying = change_mode(client, slaves, "active" if undo else "deactivated")
    for name in obeying:
        say(
            f"{name} is offered again"
            if undo
            else f"{name} is deactivated; `offerd activate {name}` offers it again"
        )
    return 0 if len(obeying) == len(set(slaves)) else 1
