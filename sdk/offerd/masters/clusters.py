"""The store of credentials: which clusters this account knows, and the keys to each.

A store is a directory: `$OFFERD_CONFIG`; without that, `~/.config/offerd` (`$XDG_CONFIG_HOME/offerd`), then `/etc/offerd`.
`clusters.toml` in it names the clusters, and `keys/` holds our secret keys. `offerd cluster` writes it, and `offerd local`
enters its cluster there while it runs. `resolve` looks up address and keys for everything that connects.

    current = "prod"

    [cluster."prod"]
    master = "10.0.0.1:5060"                # or zk://...
    master_key = "40 characters"            # the masters' public key; none: a cluster without keys
    key = "prod.key"                        # our secret key, in keys/
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from offerd.addresses import LOOPBACK
from offerd.credentials.keys import (
    KEY_VARIABLE,
    MASTER_KEY_VARIABLE,
    Keys,
    no_key,
    read_public,
    read_secret,
    write_secret,
)
from offerd.credentials.trusted_files import check_directory, read_trusted, replace_file
from offerd.errors import BadInput, NoKey
from offerd.fields.field_types import wrong
from offerd.masters.leader import DEFAULT_MASTER, master_address
from offerd.values.key_names import is_public_key, name_fault

CONFIG_VARIABLE = "OFFERD_CONFIG"
MASTER_VARIABLE = "OFFERD_MASTER"
SYSTEM_DIRECTORY = "/etc/offerd"
FILE = "clusters.toml"
KEYS = "keys"
_ENTRIES = ("master", "master_key", "key", "base")


class Connection(NamedTuple):
    """A master's address, and the keys to use with it."""

    address: str
    """`tcp://HOST:PORT` or `zk://HOST:PORT,.../path`."""
    keys: Keys | None
    """None: without keys."""
    name: str = ""
    """The cluster's name in a store; empty if it is in none."""


Where = str | Connection | None
"""What `resolve`, and everything that connects to a master, takes as the master."""


class Cluster(msgspec.Struct, frozen=True):
    """An entry of a store. `key` is the name of a file in the store's `keys/`, or the whole path of a file elsewhere."""

    name: str
    master: str
    master_key: str = ""
    key: str = ""
    base: str = ""
    """The directory of a cluster that `offerd local` runs on this host. When it is gone, so is the cluster."""

    @property
    def address(self) -> str:
        """The master's address, as `Connection.address`. Raises `BadInput`."""
        return master_address(self.master)

    @property
    def is_gone(self) -> bool:
        """Whether it was a cluster on this host, and its directory does not exist or is not ours any more."""
        if not self.base:
            return False
        try:
            status = os.lstat(self.base)
        except OSError:
            return True
        return not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid()


class Clusters(msgspec.Struct, frozen=True):
    """What a store holds: clusters by name, oldest entry first."""

    current: str = ""
    known: Mapping[str, Cluster] = msgspec.field(default_factory=dict)

    def at(self, address: str) -> Cluster | None:
        """The cluster with its masters at this address. Of several: one on this host, which holds the port; else the current
        one; else the last.
        """
        found = [each for each in reversed(list(self.known.values())) if _same_place(each.master, address)]
        return max(found, key=lambda each: (bool(each.base), each.name == self.current), default=None)


def _same_place(text: str, address: str) -> bool:
    try:
        own = master_address(text)
    except BadInput:
        return False
    return own.replace("//localhost:", f"//{LOOPBACK}:") == address.replace("//localhost:", f"//{LOOPBACK}:")


class Store:
    """A directory with credentials. A reader sees the store before or after a change, never halfway; writers take turns."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.fspath(directory)
        self._is_system = self.directory == SYSTEM_DIRECTORY
        self._path = os.path.join(self.directory, FILE)

    def key_file(self, cluster: Cluster) -> str:
        """The file of our secret key to this cluster."""
        return os.path.join(self.directory, KEYS, cluster.key)

    @property
    def is_readable(self) -> bool:
        """Whether the store exists and this account may read it."""
        return os.access(self._path, os.R_OK)

    def read(self) -> Clusters:
        """The store's contents, without clusters that are gone; empty if there is no store.

        Raises `BadInput` with one line if the store is damaged, may be written by others, or cannot be read.
        """
        path = self._path
        try:
            text = read_trusted(path, "the store of credentials")
        except (FileNotFoundError, NotADirectoryError):
            return Clusters()
        except OSError as error:
            raise BadInput(f"cannot read the store of credentials {path}: {error.strerror}") from None
        return _parse(path, text)

    # -- changing ---------------------------------------------------------------------------------------------------

    def add(self, cluster: Cluster, secret: str = "") -> Clusters:
        """Write an entry, over one of the same name; returns all entries. `secret`: our key, to be kept in `keys/`. The first
        cluster of a store becomes the current one.
        """
        if fault := name_fault(cluster.name):
            raise BadInput(fault)
        if secret:
            cluster = replace(cluster, key=f"{cluster.name}.key")

        def change(now: Clusters) -> Clusters:
            if secret:
                write_secret(self.key_file(cluster), cluster.name, secret)
            others = {name: each for name, each in now.known.items() if name != cluster.name}
            return Clusters(now.current or cluster.name, others | {cluster.name: cluster})

        return self._change(change)

    def add_local(self, cluster: Cluster) -> str:
        """Add a cluster on this host, as `NAME-2`, `NAME-3` ... if its name is taken; returns the name."""
        name = ""

        def change(now: Clusters) -> Clusters:
            nonlocal name
            for each in [
                each for each in now.known.values() if each.base and _same_place(each.master, cluster.address)
            ]:
                # We hold its port now, so it has ended without removing its entry.
                now = _without(now, each.name)
            name, number = cluster.name, 2
            while name in now.known:
                name, number = f"{cluster.name}-{number}", number + 1
            return Clusters(now.current or name, {**now.known, name: replace(cluster, name=name)})

        self._change(change)
        return name

    def remove(self, name: str) -> Cluster:
        """Remove a cluster, and our key to it if that is in `keys/`. Raises `BadInput` if there is none of this name."""
        found: list[Cluster] = []

        def change(now: Clusters) -> Clusters:
            found.append(self._known(now, name))
            return _without(now, name)

        self._change(change)
        (removed,) = found
        if os.path.basename(removed.key) == removed.key != "":
            with suppress(FileNotFoundError):
                os.unlink(self.key_file(removed))
        return removed

    def forget_local(self, base: str) -> None:
        """Remove the cluster on this host with this directory, if it is still in the store."""

        def change(now: Clusters) -> Clusters:
            for each in [each for each in now.known.values() if each.base == base]:
                now = _without(now, each.name)
            return now

        if os.path.exists(self._path):
            self._change(change)

    def use(self, name: str) -> None:
        """Make this cluster the current one. Raises `BadInput` if there is none of this name."""
        self._change(lambda now: Clusters(self._known(now, name).name, now.known))

    def _known(self, now: Clusters, name: str) -> Cluster:
        if name not in now.known:
            known = ", ".join(now.known) or "none"
            raise BadInput(f"there is no cluster {name[:64]!r} in {self.directory}; known: {known}")
        return now.known[name]

    def _change(self, change: Callable[[Clusters], Clusters]) -> Clusters:
        """Write a change, and remove clusters that are gone. Raises `BadInput` if the store cannot be written."""
        try:
            with self._locked():
                before = self.read()
                after = change(before)
                replace_file(self._path, _text(after), 0o644 if self._is_system else 0o600)
        except OSError as error:
            raise BadInput(
                f"cannot write the store of credentials {self.directory}: {error.strerror}; {CONFIG_VARIABLE} may name "
                "another directory"
            ) from None
        return after

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(os.path.dirname(self.directory) or ".", exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self.directory, 0o755 if self._is_system else 0o700)
        check_directory(self.directory, "the store of credentials")
        with suppress(FileExistsError):
            os.mkdir(os.path.join(self.directory, KEYS), 0o700)
        lock = os.open(
            os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _without(now: Clusters, name: str) -> Clusters:
    known = {each.name: each for each in now.known.values() if each.name != name}
    return Clusters("" if now.current == name else now.current, known)


# -- the file -----------------------------------------------------------------------------------------------------------


def _parse(path: str, text: bytes) -> Clusters:
    import tomllib  # only needed where there is a store

    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the store of credentials {path} cannot be read: {error}") from None
    tables, current = document.get("cluster", {}), document.get("current", "")
    if not isinstance(tables, dict) or not isinstance(current, str):
        raise BadInput(f'the store of credentials {path}: write current = "NAME" and [cluster.NAME] tables')
    known = {name: _entry(path, name, table) for name, table in tables.items()}
    alive = {name: cluster for name, cluster in known.items() if not cluster.is_gone}
    return Clusters(current if current in alive else "", alive)


def _entry(path: str, name: str, table: object) -> Cluster:
    where = f"the store of credentials {path}: [cluster.{name[:64]}]"
    if fault := name_fault(name):
        raise BadInput(f"{where}: {fault}")
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise BadInput(f"{where} must be a table of texts")
    if unknown := sorted(table.keys() - set(_ENTRIES)):
        raise BadInput(f"{where}: there is no {unknown[0][:64]!r}; known: {', '.join(_ENTRIES)}")
    cluster = Cluster(name, **{"master": "", **table})
    if not cluster.master:
        raise BadInput(f'{where} names no master; write master = "HOST:PORT"')
    if cluster.master_key and not is_public_key(cluster.master_key):
        raise BadInput(f"{where}: master_key must be a public key, 40 characters")
    return cluster


def _text(clusters: Clusters) -> str:
    lines = ["# Clusters and the keys to them; `offerd cluster` writes this file."]
    if clusters.current:
        lines.append(f"current = {_quoted(clusters.current)}")
    for cluster in clusters.known.values():
        lines += ["", f"[cluster.{_quoted(cluster.name)}]"]
        entries = ((name, getattr(cluster, name)) for name in _ENTRIES)
        lines += [f"{name} = {_quoted(value)}" for name, value in entries if value]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string in TOML. Raises `BadInput` on control characters, which no name, address or path should hold."""
    if not text.isprintable():
        raise BadInput(f"{text!r} cannot be written to the store of credentials: it has control characters")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- looking up ---------------------------------------------------------------------------------------------------------


def own_store() -> Store:
    """The store that `offerd cluster` and `offerd local` write. Raises `BadInput` if there is no place for it."""
    if directory := os.environ.get(CONFIG_VARIABLE, ""):
        return Store(directory)
    if not (home := _home_directory()):
        raise BadInput(f"this account has no home: name a directory for its keys with {CONFIG_VARIABLE}")
    return Store(home)


def _home_directory() -> str:
    """This account's directory for configuration; empty if it has no home."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    if not config.startswith("/"):
        home = os.path.expanduser("~")
        if not home.startswith("/"):
            return ""
        config = f"{home}/.config"
    return f"{config}/offerd"


def read_stores() -> list[tuple[Store, Clusters]]:
    """All stores that are searched, in order. Raises `BadInput` (see `Store.read`)."""
    if directory := os.environ.get(CONFIG_VARIABLE, ""):
        stores = [Store(directory)]
    else:
        places = (_home_directory(), SYSTEM_DIRECTORY)
        # A store that we cannot read, as below another user's home after `su` without `-`, is skipped.
        stores = [store for place in places if place and (store := Store(place)).is_readable]
    return [(store, store.read()) for store in stores]


def resolve(master: Where = None, default: str = "") -> Connection:
    """Where `master` is, and the keys to use with it.

    `master` is `HOST:PORT`, `zk://...` or the name of a cluster in a store. If it is None, the first of these counts: what
    `OFFERD_MASTER` says, the current cluster of the first store that has one, a cluster in a store at this host's port 5060,
    `default`. The keys are those that `OFFERD_KEY` and `OFFERD_MASTER_KEY` name; what they leave out is looked up in the stores
    by the address. Raises `BadInput` with one line, and `NoKey` if a store has the masters' key but none of ours, or if nothing
    at all names a cluster: any account of this host might listen at port 5060, and would be given our commands.
    """
    if isinstance(master, Connection):
        return master
    if master is not None and not isinstance(master, str):
        raise wrong("master", "an address (str)", master)
    text = master or os.environ.get(MASTER_VARIABLE, "")
    key, master_key = os.environ.get(KEY_VARIABLE, ""), os.environ.get(MASTER_KEY_VARIABLE, "")
    if key and master_key and ":" in text:
        return Connection(master_address(text), Keys(read_secret(key), read_public(master_key)))
    stores = read_stores()
    found = _find(text, stores)
    if found is None:
        keys = _keys(key, master_key)
        if not text and keys is None and not default:
            raise NoKey(_nowhere(stores))
        return Connection(master_address(text or default or DEFAULT_MASTER), keys)
    store, cluster = found
    if key or master_key:
        own = key or (store.key_file(cluster) if cluster.key else "")
        return Connection(cluster.address, _keys(own, master_key or cluster.master_key), cluster.name)
    if not cluster.master_key:
        return Connection(cluster.address, None, cluster.name)
    return Connection(cluster.address, Keys(_own_secret(store, cluster), cluster.master_key), cluster.name)


def _nowhere(stores: list[tuple[Store, Clusters]]) -> str:
    known = [name for _, clusters in stores for name in clusters.known]
    if known:
        return f"no cluster is the current one: choose one with `offerd cluster use NAME`, of {', '.join(known[:8])}"
    return (
        "no key for any cluster here: run one with `offerd local`, join one (`offerd cluster join NAME HOST:PORT TOKEN`), or "
        "name its master with --master or OFFERD_MASTER"
    )


def is_found_unasked(store: Store, name: str) -> bool:
    """Whether this cluster is the one that is used when nothing names one."""
    found = _find("", read_stores())
    return found is not None and (found[0].directory, found[1].name) == (store.directory, name)


def _find(text: str, stores: list[tuple[Store, Clusters]]) -> tuple[Store, Cluster] | None:
    if not text:
        for store, clusters in stores:
            if clusters.current:
                current = clusters.known[clusters.current]
                return store, clusters.at(current.address) or current
    for store, clusters in stores:
        if text in clusters.known:
            return store, clusters.known[text]
    address = master_address(text or DEFAULT_MASTER)
    for store, clusters in stores:
        if (cluster := clusters.at(address)) is not None:
            return store, cluster
    return None


def _keys(key: str, master_key: str) -> Keys | None:
    """Our keys, from the file of a secret key and the masters' public key; None if both are empty. Raises `BadInput` if only
    one is given, or one is invalid.
    """
    if not key and not master_key:
        return None
    if not key or not master_key:
        raise BadInput(
            f"a key needs the master's beside it: set both {KEY_VARIABLE} (file of our secret key) and "
            f"{MASTER_KEY_VARIABLE} (the master's public key), or neither"
        )
    return Keys(read_secret(key), read_public(master_key))


def _own_secret(store: Store, cluster: Cluster) -> str:
    file = store.key_file(cluster)
    if not cluster.key or not os.access(file, os.R_OK):
        why = (
            f"{file} cannot be read by this account"
            if cluster.key and os.path.exists(file)
            else "the store has none"
        )
        raise NoKey(no_key(cluster.master, cluster.name, f"{why}; "))
    return read_secret(file)
