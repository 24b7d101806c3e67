"""`offerd deactivate`: no more offers of a slave, until that is undone."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Offer slaves to no framework any more; what runs there goes on.")
@master_option
@click.option("--undo", is_flag=True, help="Offer them again, as `offerd activate` does.")
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(*, master: str, undo: bool, slaves: tuple[str, ...]) -> int:
    """Deactivate slaves, each named by its id or hostname: nothing of them is offered, their tasks run on.

    The slave writes it down: neither its restart nor a new master undoes it; `offerd activate` does.
    """
    from offerd.operator import OperatorClient
    from offerd_cli.draining import change_mode

    with OperatorClient(master) as client:
        obeying = change_mode(client, slaves, "active" if undo else "deactivated")
        return 0 if len(obeying) == len(set(slaves)) else 1
