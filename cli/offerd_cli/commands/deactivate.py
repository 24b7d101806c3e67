"""`offerd deactivate`: no more offers of a slave, until that is undone."""

from __future__ import annotations

import click

from offerd_cli.options import master_option
from offerd_cli.screen import say


@click.command(short_help="Offer a slave to nobody; what runs there goes on.")
@master_option
@click.option("--undo", is_flag=True, help="Offer it again.")
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(*, master: str, undo: bool, slaves: tuple[str, ...]) -> int:
    """Deactivate slaves, each named by its id or hostname: nothing of them is offered, their tasks run on.

    The slave writes it down: neither its restart nor a new master undoes it.
    """
    from offerd.errors import OfferdError
    from offerd.operator import OperatorClient

    status = 0
    with OperatorClient(master) as client:
        for name in slaves:
            try:
                client.change_slave_mode(name, "active" if undo else "deactivated")
            except OfferdError as error:
                say(f"offerd: {name}: {error}")
                status = 1
    return status
