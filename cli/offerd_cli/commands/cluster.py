"""`offerd cluster`: the clusters that this account knows, and the keys to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offerd.errors import BadInput
from offerd_cli.options import json_option

if TYPE_CHECKING:
    from offerd.masters.clusters import Cluster, Store


@click.group(short_help="Name the clusters that this account uses, and keep the keys to them.")
def command() -> None:
    """Name the clusters that this account uses, and keep the keys to them.

    \b
    offerd cluster join prod 10.0.0.1:5060 TOKEN
    offerd cluster use prod            # commands go there from now on
    offerd run --master lab -- date    # this one to another cluster

    Names and keys are kept in $OFFERD_CONFIG (default ~/.config/offerd), which only this account can read. Clusters that the
    host's operator has put into /etc/offerd are known, too. `offerd local` adds its cluster while it runs.
    """


@command.command(name="list", short_help="List the known clusters.")
@json_option
def list_(*, as_json: bool) -> None:
    """List the known clusters; a star marks the current one.

    \b
    offerd cluster list
    """
    from offerd.masters.clusters import read_stores
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
        say("no clusters are known; `offerd local` starts one, `offerd cluster add` adds a running one")
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
    """What `--json` prints of each: `name`, `master`, `master_key`, `key` (the file), `public_key` (ours, by which an operator
    knows us), `current`, `store` (the directory); `base` is the directory of a cluster that `offerd local` runs.
    """
    from offerd.credentials.keys import public_of, read_secret

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


@command.command(short_help="Choose the cluster that commands use.")
@click.argument("name")
def use(*, name: str) -> None:
    """Make NAME the current cluster: the one that commands without --master use.

    \b
    offerd cluster use prod
    """
    from offerd.masters.clusters import own_store

    own_store().use(name)


@command.command(short_help="Add a cluster, or change its address or key.")
@click.argument("name")
@click.argument("master")
@click.option(
    "--master-key",
    default="",
    metavar="KEY",
    help="Public key of the masters, or its file.  [default: the cluster has no keys]",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of this account's secret key, which is copied.  [default: a new key]",
)
def add(*, name: str, master: str, master_key: str, key: Path | None) -> None:
    """Add the cluster NAME, or change its address or key; MASTER is HOST:PORT or zk://HOST:PORT,.../path.

    \b
    offerd cluster add prod 10.0.0.1:5060 --master-key master.pub
    offerd cluster add lab 127.0.0.1:5060

    A new secret key is made for this account unless --key names one or an earlier one exists. Its public part is printed: the
    operator of the cluster must authorize it. Without --master-key the cluster is taken to have no keys.
    """
    from offerd.credentials.keys import new_secret, public_of, read_public, read_secret
    from offerd.masters.clusters import Cluster, own_store
    from offerd.masters.leader import master_address
    from offerd_cli.screen import say

    if key is not None and not master_key:
        raise BadInput(
            "--key needs --master-key, the public key of the master, to be sure of the right master; give both"
        )
    cluster = Cluster(name, master, read_public(master_key) if master_key else "")
    master_address(master)  # raises BadInput if it is not an address
    store, secret = own_store(), ""
    before = store.read().known.get(name)
    own = key or (store.key_file(before) if before is not None and before.key else None)
    if master_key:
        secret = read_secret(own) if own is not None else new_secret()
    clusters = store.add(cluster, secret)
    if secret:
        click.echo(public_of(secret))
        if own is None:
            say(f"this is your public key; send it to the operator of {name}, who must authorize it")
    if clusters.current != name:
        say(f"the current cluster is still {clusters.current}; `offerd cluster use {name}` changes that")


@command.command(short_help="Forget a cluster, and delete the key to it.")
@click.argument("name")
def remove(*, name: str) -> None:
    """Forget the cluster NAME, and delete the key to it.

    \b
    offerd cluster remove prod
    """
    from offerd.masters.clusters import own_store

    own_store().remove(name)


@command.command(short_help="Join a cluster with a token from its operator.")
@click.argument("name")
@click.argument("where", metavar="HOST[:PORT]")
@click.argument("token")
@click.option(
    "--as",
    "own_name",
    default="",
    metavar="NAME",
    help="Name by which the cluster knows you.  [default: this account's name]",
)
def join(*, name: str, where: str, token: str, own_name: str) -> None:
    """Join the cluster whose master is at HOST, and call it NAME here.

    \b
    offerd cluster join prod 10.0.0.1:5060 TOKEN
    offerd cluster join prod 10.0.0.1:5060 - <token.txt

    An operator of the cluster makes the TOKEN with `offerd token new`. Other accounts of this host can read a command line;
    give - as TOKEN to read it from standard input. HOST may also be zk://HOST:PORT,.../path; without :PORT it is port 5060.

    The secret key is made here and stays here; only its public part is sent.
    """
    from offerd_cli.founding import key_name_of_account
    from offerd_cli.person_joining import join_as_person
    from offerd_cli.screen import say

    join_as_person(name, where, token, own_name or key_name_of_account(), say)
