"""`offerd keys`: the keys by which daemons and people know each other."""

from __future__ import annotations

from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.options import json_option, master_option


@click.group(short_help="Make, list and revoke the keys of daemons and people.")
def command() -> None:
    """Make, list and revoke keys: a master with keys admits only peers whose keys it knows.

    \b
    offerd keys list           # whose keys the master knows
    offerd keys revoke host7   # the connections and tasks of host7 end
    offerd keys new alice      # a pair of keys, for the master's file

    Usually a key comes from joining: `offerd token new`, then `offerd slave join` or `offerd cluster join` (see
    docs/security.md).
    """


@command.command(short_help="Make a pair of keys.")
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Directory for the two files, created if it is missing.  [default: the current one]",
)
def new(*, name: str, directory: Path) -> None:
    """Make NAME.key, which only this account can read, and NAME.pub, for the master's --authorized file.

    \b
    offerd keys new alice
    offerd keys new host7 --dir keys
    """
    from offerd.credentials.keys import new_key, read_public

    _make_directory(directory)
    secret, public = new_key(name, directory)
    click.echo(f"{secret}: secret, for the owner alone")
    click.echo(f"{public}: {read_public(str(public))}")


@command.command("list", short_help="List the keys that the master knows.")
@json_option
@master_option
def list_keys(*, master: str, as_json: bool) -> None:
    """List the owners of the keys that the master knows, and what each may do.

    \b
    offerd keys list

    The list has the keys that have joined, and those of the master's --authorized file.
    """
    from offerd.operator import OperatorClient
    from offerd_cli import documents, key_listings, render

    with OperatorClient(master) as client:
        keys = list(client.known_keys())
    if as_json:
        documents.print_document(key_listings.keys_document(keys))
    else:
        render.print_table(render.console(), key_listings.keys_table(keys))


@command.command(short_help="Revoke a key.")
@master_option
@click.argument("name")
def revoke(*, master: str, name: str) -> None:
    """Revoke the key that has joined as NAME.

    \b
    offerd keys revoke host7

    Its connections end within seconds. A slave ends its tasks, which are lost for their frameworks; frameworks end with their
    tasks.
    """
    from offerd.operator import OperatorClient

    with OperatorClient(master) as client:
        client.revoke_key(name)


def _make_directory(path: Path) -> None:
    """Make a directory that others may read: the file of a secret key is protected by its own mode. Raises `BadInput`."""
    try:
        path.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the directory {path}: {error.strerror}") from None
