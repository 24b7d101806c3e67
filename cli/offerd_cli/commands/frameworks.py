"""`offerd frameworks`: the programs that use the cluster."""

from __future__ import annotations

import click

from offerd_cli.options import json_option, master_option
from offerd_cli.screen import say


@click.command(short_help="List the frameworks.")
@click.option("--all", "ended", is_flag=True, help="List frameworks that have ended, too.")
@json_option
@master_option
def command(*, master: str, ended: bool, as_json: bool) -> None:
    """List the frameworks with their dominant share, their tasks, and the work lost to time limits.

    \b
    offerd frameworks
    offerd frameworks --all
    """
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render

    with OperatorClient(master) as client:
        frameworks = list(client.frameworks(ended=ended))
    if as_json:
        documents.print_document(
            {
                "frameworks": [documents.framework_document(framework) for framework in frameworks],
                "only_of": client.shown_owner,
            }
        )
        return
    if frameworks:
        render.print_table(render.console(), render.frameworks_table(frameworks))
    else:
        say("no frameworks are registered" + ("" if ended else "; --all lists those that have ended"))
    render.print_owner(client.shown_owner)
