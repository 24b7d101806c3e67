"""What hosts and people need to join: a key of their own, made once, and enrolment, which may be repeated."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

import zmq

from offerd.credentials.keys import Keys, name_fault, public_of, read_secret, write_secret
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import KEYS, Cluster, own_store
from offerd.masters.leader import master_address
from offerd.operator_messages import Rights
from offerd_cli.join_tokens import read_token
from offerd_cli.joining import enrol, is_known
from offerd_cli.key_listings import rights_text

TRY_OWN_KEY_S = 2.0
MOST_TYPED = 4096
"""Longest line, in characters, that is read as a token."""


def given_token(text: str) -> Keys:
    """The token given to a command; `-` means a line of standard input, read without echo at a terminal. A token on the command
    line can be read by every account of the host in the list of processes. Raises `BadInput` with one line.
    """
    if text != "-":
        return read_token(text)
    try:
        typed = getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.readline(MOST_TYPED)
    except (EOFError, UnicodeDecodeError):
        typed = ""
    if not typed.strip():
        raise BadInput(
            "there is no token on standard input; give it the line that `offerd token new` has printed"
        )
    return read_token(typed.strip())


def enrol_own_key(path: Path, where: str, token: Keys, name: str) -> tuple[Keys, Rights | None]:
    """Enrol our key, and keep the secret part in `path`. Returns the keys, and the rights of `name`; None if an earlier try has
    enrolled the key and only the answer was lost: then the token may be used up, but the master knows the key.

    A stored key that the master does not know is never enrolled: it may have been revoked because somebody else has it. It
    stays until the new key is valid. Raises `OfferdError` with one line.
    """
    pending = path.with_suffix(".joining")
    for earlier in (pending, path):
        if earlier.exists() and is_known(where, keys := Keys(read_secret(earlier), token.master)):
            os.replace(earlier, path)
            return keys, None
    keys = Keys(zmq.curve_keypair()[1].decode(), token.master)
    try:
        os.makedirs(path.parent.parent, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        os.makedirs(path.parent, exist_ok=True, mode=0o700)
        write_secret(pending, name, keys.secret)
    except OSError as error:
        raise BadInput(f"cannot write the key file {path}: {error.strerror}") from None
    try:
        rights: Rights | None = enrol(where, token, name, public_of(keys.secret)).rights
    except OfferdError:
        if not _is_known_after_all(where, keys, pending):
            raise
        rights = None
    os.replace(pending, path)
    return keys, rights


def _is_known_after_all(where: str, keys: Keys, pending: Path) -> bool:
    """No good answer came: ask the master whether it knows the key. An unknown key is deleted; if nobody answers it is kept."""
    try:
        if is_known(where, keys, TRY_OWN_KEY_S):
            return True
    except OfferdError:
        return False
    pending.unlink()
    return False


def written(address: str) -> str:
    """An address as people write it, and as the store holds it."""
    return address.removeprefix("tcp://")


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
    keys, rights = enrol_own_key(Path(store.directory) / KEYS / f"{cluster}.key", where, token, name)
    clusters = store.add(Cluster(cluster, where, token.master), keys.secret)
    say(f"joined {cluster} as {name}{f' ({rights_text(rights)})' if rights is not None else ''}")
    if clusters.current != cluster:
        say(f"the current cluster is still {clusters.current}; `offerd cluster use {cluster}` changes that")
