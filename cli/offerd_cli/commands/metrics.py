"""`offerd metrics`: the cluster's metrics for a monitoring system."""

from __future__ import annotations

import click

from offerd_cli.options import master_option


@click.command(short_help="Print metrics of the cluster for Prometheus.")
@master_option
def command(*, master: str) -> None:
    """Print the master's metrics in the text format of Prometheus.

    \b
    offerd metrics
    offerd metrics >offerd.prom.new && mv offerd.prom.new offerd.prom

    Run the second example in the directory of node_exporter's textfile collector: it replaces the file in one step.
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
