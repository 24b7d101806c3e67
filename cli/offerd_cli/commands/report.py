"""`offerd report`: what roles, frameworks and users have held, used and wasted."""

from __future__ import annotations

import click

from offerd_cli.options import DURATION, json_option, master_option


@click.command(short_help="Show what roles, frameworks and users have held, used and wasted.")
@click.option(
    "--since",
    type=DURATION,
    default="7d",
    show_default=True,
    help="Time to look back, for example 30d.",
)
@click.option(
    "--by",
    type=click.Choice(["role", "framework", "user", "day"]),
    default="framework",
    show_default=True,
    help="Grouping: each of these has a row.",
)
@json_option
@master_option
def command(*, master: str, since: float, by: str, as_json: bool) -> None:
    """Show what tasks have held of the cluster, used of that, and wasted, in whole days (UTC).

    \b
    offerd report
    offerd report --by role --since 30d

    Wasted is what tasks held that were ended at their time limits. Tasks count when they have ended, and only as far as the
    history of `offerd web` knows them; what it lacks is named.
    """
    from offerd_cli.past_listings import print_report

    print_report(master, since, by, as_json=as_json)
