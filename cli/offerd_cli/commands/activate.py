"""`offerd activate`: offer drained or deactivated slaves again."""

from __future__ import annotations

import click

from offerd_cli.options import master_option
from offerd_cli.screen import say


@click.command(short_help="Offer drained or deactivated slaves again.")
@master_option
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(*, master: str, slaves: tuple[str, ...]) -> int:
    """Offer drained or deactivated slaves again; each is named by its id or hostname.

    \b
    offerd activate host7
    offerd activate host7 host8

    A slave that is still draining is offered again, too. `offerd slave --activate` does the same on the slave's own host.
    """
    from offerd.operator import OperatorClient
    from offerd_cli.draining import change_mode

    with OperatorClient(master) as client:
        offered = change_mode(client, slaves, "active")
    for name in offered:
        say(f"{name} is offered again")
    return 0 if len(offered) == len(set(slaves)) else 1
