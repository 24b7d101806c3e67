"""What hosts and people who join have in common: keys of their own, made once, and enrolment, which may be tried again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import zmq

from offerd.clusters import KEYS, Cluster, Store, own_store
from offerd.errors import BadInput, OfferdError
from offerd.joining import enrol, is_known
from offerd.keys import Keys, name_fault, public_of, read_secret, write_secret
from offerd.leader import master_address
from offerd.operator_messages import Rights
from offerd.words import read_word
from offerd_cli.key_listings import rights_text

TRY_OWN_KEY_S = 2.0


def own_secret(store: Store, name: str) -> str:
    """The secret key in the store's file of this name, made unless an earlier try has left it. Raises `BadInput`."""
    path = Path(store.directory) / KEYS / f"{name}.key"
    if path.exists():
        return read_secret(path)
    secret: str = zmq.curve_keypair()[1].decode()
    try:
        os.makedirs(store.directory, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        os.makedirs(path.parent, exist_ok=True, mode=0o700)
        write_secret(path, name, secret)
    except OSError as error:
        raise BadInput(f"cannot write the key file {path}: {error.strerror}") from None
    return secret


def have_enrolled(where: str, word: Keys, name: str, keys: Keys) -> Rights | None:
    """What `name` may be with our key from now on; None if that was done before, and only its answer lost: then the word may be
    used up, but our key is known. Raises `OfferdError` with one line.
    """
    try:
        return enrol(where, word, name, public_of(keys.secret)).rights
    except OfferdError:
        try:
            if is_known(where, keys, TRY_OWN_KEY_S):
                return None
        except OfferdError:
            pass
        raise


def written(address: str) -> str:
    """An address as people write it, and as the store has it."""
    return address.removeprefix("tcp://")


def join_as_person(cluster: str, master: str, word_text: str, name: str, say: Callable[[str], None]) -> None:
    """`offerd cluster join`: make our key to the cluster, have it enrolled as `name`'s, and enter it in the store. Raises
    `OfferdError` with one line; it may be run again.
    """
    word = read_word(word_text)
    where = written(master_address(master))
    for fault in (name_fault(cluster), name_fault(name)):
        if fault:
            raise BadInput(fault)
    store = own_store()
    known = store.read().known.get(cluster)
    if known is not None and (known.master_key != word.master or not known.key):
        raise BadInput(
            f"{store.directory} knows another cluster {cluster}: choose another name, or first "
            f"`offerd cluster remove {cluster}`"
        )
    keys = Keys(own_secret(store, cluster), word.master)
    if known is not None and is_known(where, keys):
        say(f"this account has joined {cluster} at {known.master} already; nothing was changed")
        return
    rights = have_enrolled(where, word, name, keys)
    clusters = store.add(Cluster(cluster, where, word.master), keys.secret)
    say(f"joined {cluster} as {name}{f' ({rights_text(rights)})' if rights is not None else ''}")
    if clusters.current != cluster:
        say(f"the current cluster is still {clusters.current}; `offerd cluster use {cluster}` changes that")
