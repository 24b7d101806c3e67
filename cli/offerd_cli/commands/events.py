"""`offerd events`: what has happened in the cluster, and with `--follow` what happens."""

from __future__ import annotations

import click

from offerd_cli.options import json_option, master_option


@click.command(short_help="Show what happens in the cluster, and what has happened.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C, also with a new master.")
@click.option(
    "--framework",
    default="",
    metavar="ID",
    help="Show events of one framework only, by its id or name.  [default: all]",
)
@click.option("--host", default="", metavar="HOST", help="Show events on this host only.  [default: all]")
@json_option
@master_option
def command(*, master: str, follow: bool, framework: str, host: str, as_json: bool) -> None:
    """Show what has happened to slaves, frameworks and tasks, as far back as the master remembers.

    \b
    offerd events
    offerd events -f --framework wordcount
    offerd events -f --json | jq .event

    With --json each line is one event. Of what happens between two answers of the master, twenty a second at most, the last
    state counts: a task that is launched and runs in between still has both events, but a slave that is lost and back has none.
    """
    from offerd.cluster_events import EventReader
    from offerd.errors import MasterUnreachable
    from offerd.operator import OperatorClient
    from offerd_cli.events import Printer

    reader, printer = EventReader(), Printer(framework, host, as_json=as_json)
    with OperatorClient(master) as client:
        while True:
            try:
                for found in client.events(reader):
                    is_all = reader.replica.is_current
                    printer.add(found, is_all=is_all)
                    if is_all and not follow:
                        printer.print_owner(client.shown_owner)
                        return
                    client.tries_on = True  # from the first answer on, an absence is waited out, and said
            except MasterUnreachable:
                if not (follow and client.tries_on):
                    raise
