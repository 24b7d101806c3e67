"""`offerd activate`: slaves that were drained or deactivated are offered again."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Let drained or deactivated slaves in again.")
@master_option
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(*, master: str, slaves: tuple[str, ...]) -> int:
    """Offer slaves again, each named by its id or hostname, that were drained (or are draining) or deactivated.

    On the slave's own host `offerd slave --activate` does the same.
    """
    from offerd.operator import OperatorClient
    from offerd_cli.draining import change_mode

    with OperatorClient(master) as client:
        return 0 if len(change_mode(client, slaves, "active")) == len(set(slaves)) else 1
