"""`offerd keys`: makes the keys by which daemons and people know each other."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(short_help="Keys for daemons and people.")
def command() -> None:
    """Keys for daemons and people: who has one that the master knows is heard, and nobody else.

    \b
    offerd keys new master                                        the masters' own, one for all
    offerd keys new alice                                         one for each slave and person
    offerd master --key master.key --authorized cluster.toml      what the file says: docs/security.md
    offerd run --key alice.key --master-key master.pub -- date
    """


@command.command(short_help="Make a pair of keys.")
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where to put them.  [default: here]",
)
def new(*, name: str, directory: Path) -> None:
    """Make NAME.key, which only its owner may read, and NAME.pub, for the master's file of the authorized."""
    from offerd.keys import new_key, read_public

    secret, public = new_key(name, directory)
    click.echo(f"{secret}: secret, for the owner alone")
    click.echo(f"{public}: {read_public(str(public))}")
