"""`offerd explain`: why a framework does not get more resources."""

from __future__ import annotations

import click

from offerd_cli.options import json_option, master_option


@click.command(short_help="Show why a framework does not get more resources.")
@click.argument("framework")
@json_option
@master_option
def command(*, framework: str, master: str, as_json: bool) -> None:
    """Show why a framework, named by its id or name, does not get more resources.

    \b
    offerd explain wordcount
    offerd explain wordcount --json

    It prints the framework's share and its fair share, how long it has been below that, and what keeps each slave from it: in
    use, filtered, declined, the part for long tasks full, or less free than the minimum offer.
    """
    from offerd.operator import OperatorClient
    from offerd_cli import explaining, render
    from offerd_cli.documents import print_document

    with OperatorClient(master) as client:
        explanation = client.explain_framework(framework)
    if as_json:
        print_document(explaining.explanation_document(explanation))
    else:
        explaining.print_explanation(render.console(), explanation)
