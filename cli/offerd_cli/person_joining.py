"""`offerd cluster join`: makes a person's key to a cluster, enrols it with a token, and enters the cluster in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from offerd.credentials.keys import Keys, read_secret
from offerd.errors import BadInput
from offerd.masters.clusters import KEYS, Cluster, own_store
from offerd.masters.leader import master_address
from offerd.values.key_names import name_fault
from offerd_cli.enrolment_client import is_known
from offerd_cli.key_listings import rights_text
from offerd_cli.own_keys import enrol_own_key, given_token, written


def join_as_person(cluster: str, master: str, token_text: str, name: str, say: Callable[[str], None]) -> None:
    """`offerd cluster join`: make our key to the cluster, enrol it as `name`'s, and enter the cluster in the store. It may be
    repeated. Raises `OfferdError` with one line.
    """
    token = given_token(token_text)
    where = written(master_address(master))
    for fault in (name_fault(cluster), name_fault(name)):
        if fault:
            raise BadInput(fault)
    store = own_store()
    known = store.read().known.get(cluster)
    if known is not None and (known.master_key != token.master or not known.key):
        raise BadInput(
            f"{store.directory} knows another cluster {cluster}: choose another name, or first run "
            f"`offerd cluster remove {cluster}`"
        )
    if known is not None and is_known(where, Keys(read_secret(store.key_file(known)), token.master)):
        say(f"this account has already joined {cluster} at {known.master}; nothing was changed")
        return
    key_file = Path(store.directory) / KEYS / f"{cluster}.key"
    keys, rights = enrol_own_key(key_file, where, token, name, name_option="--as")
    clusters = store.add(Cluster(cluster, where, token.master), keys.secret)
    say(f"joined {cluster} as {name}{f' ({rights_text(rights)})' if rights is not None else ''}")
    if clusters.current != cluster:
        say(f"the current cluster is still {clusters.current}; `offerd cluster use {cluster}` changes that")
