"""`offerd slaves`: the hosts of the cluster."""

from __future__ import annotations

import click

from offerd_cli.options import json_option, master_option
from offerd_cli.screen import say


@click.command(short_help="List the slaves.")
@json_option
@master_option
def command(*, master: str, as_json: bool) -> None:
    """List the slaves with their resources: used, offered, free, and in use by their own measurement.

    \b
    offerd slaves
    offerd slaves --json
    """
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render

    with OperatorClient(master) as client:
        slaves, where = list(client.slaves()), client.address.removeprefix("tcp://")
    if as_json:
        documents.print_document({"slaves": [documents.slave_document(slave) for slave in slaves]})
    elif slaves:
        render.print_table(render.console(), render.slaves_table(slaves))
    else:
        say(f"there are no slaves; start one: offerd slave --master {where}")
