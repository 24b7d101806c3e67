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

    Run the second example in the directory of node_exporter's textfile collector: it replaces the file in one step. A gateway
    serves the same, and more, to Prometheus itself. With a key that is not an operator's, tasks and what they hold are those of
    your own frameworks.
    """
    import time

    from offerd.operator import OperatorClient
    from offerd_web.core.view import ClusterView
    from offerd_web.services.metrics import exposition

    view = ClusterView()
    with OperatorClient(master) as client:
        while not view.replica.is_current:
            view.apply(client.changes(view.replica), time.time())
    click.echo(exposition(view, time.time()), nl=False)
