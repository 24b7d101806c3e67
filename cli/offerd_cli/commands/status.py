"""`offerd status`: the cluster at a glance."""

from __future__ import annotations

import click

from offerd_cli.options import json_option, master_option


@click.command(short_help="Show the whole cluster at a glance.")
@json_option
@master_option
def command(*, master: str, as_json: bool) -> None:
    """Show the master, how full the cluster is, how much each framework holds, and how many tasks are in each state.

    \b
    offerd status
    offerd status --master lab
    """
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render

    with OperatorClient(master) as client:
        where = client.address.removeprefix("tcp://")
        cluster, slaves, frameworks = client.cluster(), list(client.slaves()), list(client.frameworks())
        leader = client.leader
    if as_json:
        documents.print_document(
            {
                "master": where,
                "leader": leader,
                "cluster": documents.cluster_document(cluster),
                "slaves": [documents.slave_document(slave) for slave in slaves],
                "frameworks": [documents.framework_document(framework) for framework in frameworks],
                "only_of": client.shown_owner,
            }
        )
    else:
        named = where if where == leader else f"{where}, {leader} leads"
        render.print_status(render.console(), cluster, slaves, frameworks, named)
        render.print_owner(client.shown_owner)
