"""`offerd metrics`: the cluster for a monitoring system."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Print metrics of the cluster for Prometheus.")
@master_option
def command(*, master: str) -> None:
    """Print what the master knows in the text format of Prometheus, for node_exporter's textfile collector:

    \b
    offerd metrics > /var/lib/node_exporter/offerd.prom.new && mv /var/lib/node_exporter/offerd.prom{.new,}
    """
    from offerd.operator import OperatorClient
    from offerd_cli.metrics import exposition

    with OperatorClient(master) as client:
        cluster, slaves, frameworks = (
            client.cluster(),
            list(client.slaves()),
            list(client.frameworks(ended=True)),
        )
    click.echo(exposition(cluster, slaves, frameworks), nl=False)
