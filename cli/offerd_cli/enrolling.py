"""What hosts and people who join have in common: keys of their own, made once, and enrolment, which may be tried again."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

import zmq

from offerd.credentials.clusters import KEYS, Cluster, own_store
from offerd.credentials.joining import enrol, is_known
from offerd.credentials.keys import Keys, name_fault, public_of, read_secret, write_secret
from offerd.credentials.words import read_word
from offerd.errors import BadInput, OfferdError
from offerd.masters.leader import master_address
from offerd.operator_messages import Rights
from offerd_cli.key_listings import rights_text

TRY_OWN_KEY_S = 2.0
MOST_TYPED = 4096
"""Characters of a line that is to hold a word."""


def given_word(text: str) -> Keys:
    """The word that a command was given; for `-` a line of standard input, asked for without echo at a terminal: what stands on
    a command line is to be read in the list of processes by every account of the host. Raises `BadInput` with one line.
    """
    if text != "-":
        return read_word(text)
    try:
        typed = getpass.getpass("word: ") if sys.stdin.isatty() else sys.stdin.readline(MOST_TYPED)
    except (EOFError, UnicodeDecodeError):
        typed = ""
    if not typed.strip():
        raise BadInput("no word on standard input; give it one line, as `offerd token new` prints it")
    return read_word(typed.strip())


def enrol_own_key(path: Path, where: str, word: Keys, name: str) -> tuple[Keys, Rights | None]:
    """Our keys, of which the secret one lies in `path` from now on, and what `name` may be with them; None if that was done
    by an earlier try, of which only the answer was lost: then the word may be used up, but the key is known.

    A key that the master does not know is never enrolled later: it may have been taken back because somebody else has it. It
    stays until the new one counts. Raises `OfferdError` with one line.
    """
    pending = path.with_suffix(".joining")
    for earlier in (pending, path):
        if earlier.exists() and is_known(where, keys := Keys(read_secret(earlier), word.master)):
            os.replace(earlier, path)
            return keys, None
    keys = Keys(zmq.curve_keypair()[1].decode(), word.master)
    try:
        os.makedirs(path.parent.parent, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        os.makedirs(path.parent, exist_ok=True, mode=0o700)
        write_secret(pending, name, keys.secret)
    except OSError as error:
        raise BadInput(f"cannot write the key file {path}: {error.strerror}") from None
    try:
        rights: Rights | None = enrol(where, word, name, public_of(keys.secret)).rights
    except OfferdError:
        if not _is_known_after_all(where, keys, pending):
            raise
        rights = None
    os.replace(pending, path)
    return keys, rights


def _is_known_after_all(where: str, keys: Keys, pending: Path) -> bool:
    """Where no good answer came. What nobody knows is removed; where nobody can be asked the next try finds it."""
    try:
        if is_known(where, keys, TRY_OWN_KEY_S):
            return True
    except OfferdError:
        return False
    pending.unlink()
    return False


def written(address: str) -> str:
    """An address as people write it, and as the store has it."""
    return address.removeprefix("tcp://")


def join_as_person(cluster: str, master: str, word_text: str, name: str, say: Callable[[str], None]) -> None:
    """`offerd cluster join`: make our key to the cluster, have it enrolled as `name`'s, and enter it in the store. Raises
    `OfferdError` with one line; it may be run again.
    """
    word = given_word(word_text)
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
    if known is not None and is_known(where, Keys(read_secret(store.key_file(known)), word.master)):
        say(f"this account has joined {cluster} at {known.master} already; nothing was changed")
        return
    keys, rights = enrol_own_key(Path(store.directory) / KEYS / f"{cluster}.key", where, word, name)
    clusters = store.add(Cluster(cluster, where, word.master), keys.secret)
    say(f"joined {cluster} as {name}{f' ({rights_text(rights)})' if rights is not None else ''}")
    if clusters.current != cluster:
        say(f"the current cluster is still {clusters.current}; `offerd cluster use {cluster}` changes that")
