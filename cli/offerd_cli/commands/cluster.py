"""`offerd cluster`: the store of credentials: which clusters this account knows, and the keys to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offerd.errors import BadInput
from offerd_cli.options import json_option

if TYPE_CHECKING:
    from offerd.clusters import Cluster, Store


@click.group(short_help="Name the clusters that this account uses, and keep the keys to them.")
def command() -> None:
    """Which clusters this account knows, with the keys to them: where commands go that say nothing else.

    \b
    offerd cluster add prod 10.0.0.1:5060 --master-key KEY     makes a key of ours and says its public part
    offerd cluster use prod                                    from now on `offerd run` goes there
    offerd run --master lab -- date                            to another one, this once
    They stand in $OFFERD_CONFIG, else ~/.config/offerd, which only its owner can read; what the host's operator has put into
    /etc/offerd is known, too. `offerd local` adds itself as long as it runs.
    """


@command.command(name="list", short_help="List them.")
@json_option
def list_(*, as_json: bool) -> None:
    """List the clusters that are known, the current one with a star."""
    from offerd.clusters import read_stores
    from offerd_cli import documents, render
    from offerd_cli.fitting import Column
    from offerd_cli.screen import say

    rows = [
        _row(store, cluster, cluster.name == clusters.current)
        for store, clusters in read_stores()
        for cluster in clusters.known.values()
    ]
    if as_json:
        documents.print_document({"clusters": rows})
        return
    if not rows:
        say("no clusters; `offerd local` starts one, `offerd cluster add` names one that runs")
        return
    table = render.FittedTable(
        Column(""),
        Column("NAME"),
        Column("MASTER", wraps=True),
        Column("OUR KEY", worth=60),
        Column("STORE", worth=50, wraps=True),
    )
    for row in rows:
        key = row["public_key"] or ("cannot be read" if row["key"] else "none")
        table.add_row("*" if row["current"] else "", row["name"], row["master"], key, row["store"])
    render.print_table(render.console(), table)


def _row(store: Store, cluster: Cluster, is_current: bool) -> dict[str, Any]:
    """What `--json` says of each: `name`, `master`, `master_key`, `key` (the file), `public_key` (ours, by which an operator
    knows us), `current`, `store` (the directory); `base` is the directory of one that `offerd local` runs.
    """
    from offerd.keys import public_of, read_secret

    file = store.key_file(cluster) if cluster.key else ""
    try:
        public = public_of(read_secret(file)) if file else ""
    except BadInput:
        public = ""
    return {
        "name": cluster.name,
        "master": cluster.master,
        "master_key": cluster.master_key,
        "key": file,
        "public_key": public,
        "current": is_current,
        "store": store.directory,
        "base": cluster.base,
    }


@command.command(short_help="Make one the current one.")
@click.argument("name")
def use(*, name: str) -> None:
    """Have commands that say nothing else go to the cluster NAME."""
    from offerd.clusters import own_store

    own_store().use(name)


@command.command(short_help="Add one, or say another key or address for it.")
@click.argument("name")
@click.argument("master")
@click.option("--master-key", default="", metavar="KEY", help="The masters' public key, or the file of it.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Our secret key; it is copied.  [default: a new one]",
)
def add(*, name: str, master: str, master_key: str, key: Path | None) -> None:
    """Add the cluster NAME, whose MASTER is HOST:PORT or zk://HOST:PORT,.../path.

    Where no key of ours is said, nor kept from before, one is made, and its public part printed, for the cluster's operator.
    Without --master-key it is a cluster without keys.
    """
    from offerd.clusters import Cluster, own_store
    from offerd.keys import new_secret, public_of, read_public, read_secret
    from offerd.leader import master_address
    from offerd_cli.screen import say

    if key is not None and not master_key:
        raise BadInput("--key needs --master-key: by it we know the master before we show it our own")
    cluster = Cluster(name, master, read_public(master_key) if master_key else "")
    master_address(master)  # whether it is an address at all
    store, secret = own_store(), ""
    before = store.read().known.get(name)
    own = key or (store.key_file(before) if before is not None and before.key else None)
    if master_key:
        secret = read_secret(own) if own is not None else new_secret()
    clusters = store.add(cluster, secret)
    if secret:
        click.echo(public_of(secret))
        if own is None:
            say(f"that is our key's public part: the operator of {name} has to let it in")
    if clusters.current != name:
        say(f"the current cluster is still {clusters.current}; `offerd cluster use {name}` changes that")


@command.command(short_help="Forget one, and our key to it.")
@click.argument("name")
def remove(*, name: str) -> None:
    """Forget the cluster NAME, and the key to it that was kept with it."""
    from offerd.clusters import own_store

    own_store().remove(name)


@command.command(short_help="Join one, with a word of its operator's.")
@click.argument("name")
@click.argument("where", metavar="HOST[:PORT]")
@click.argument("word")
@click.option(
    "--as",
    "own_name",
    default="",
    metavar="NAME",
    help="As whom we are known there.  [default: this account]",
)
def join(*, name: str, where: str, word: str, own_name: str) -> None:
    """Join the cluster whose master is at HOST (port 5060 unless said; or zk://...), with a WORD of its operator's
    (`offerd token new`), and call it NAME here. For - it is read from standard input, as what is typed here may be read by
    every account of this host. Our key is made here, and only its public part goes anywhere.
    """
    from offerd_cli.enrolling import join_as_person
    from offerd_cli.founding import account_name
    from offerd_cli.screen import say

    join_as_person(name, where, word, own_name or account_name(), say)
