"""The keys of a master: the store in which they are kept, the gate that admits peers by them, and the registry that both use.

A standby master makes a new registry when it has read something new. The registry of a leading master belongs to its core: what
is read then is returned as events for the core, and changes nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import zmq

from offerd.credentials.keys import public_of
from offerd.masters.zookeeper_access import derived_access
from offerd_master.core.actions import KeepChange
from offerd_master.core.events import AuthorizedRead, ChangeKept, EnrolmentRead, HandshakeRefused
from offerd_master.core.registry import Registry
from offerd_master.gate import Gate
from offerd_master.key_file import KeyFile, default_state_dir
from offerd_master.key_records import KeyStore
from offerd_master.options import MasterOptions
from offerd_master.zookeeper_keys import ZooKeeperKeys

KeyEvent = AuthorizedRead | EnrolmentRead | ChangeKept


class MasterKeys:
    """Open it before the server that it guards, in the same context."""

    def __init__(
        self,
        options: MasterOptions,
        context: zmq.Context[Any],
        wake: Callable[[], None],
        cut: Callable[[frozenset[str]], None],
    ) -> None:
        """`wake` ends the wait of the master's loop, from any thread. `cut` is called, while the master stands by, with public
        keys that are no longer authorized. Raises `BadInput` with one line.
        """
        self._read_principals = options.read_principals
        self._cut = cut
        principals = options.read_principals()
        self._store = _open_store(options, wake)
        self._leads = False
        self._refused: Counter[str] = Counter()
        self.registry = Registry(principals, self._store.contents)
        """The registry, for reading only."""
        self.complaints = [*self._store.complaints, *filter(None, [self.registry.shadows()])]
        """A line for each entry that was skipped at the start."""
        self._gate = Gate(context, self.registry)

    def watch(self, server: zmq.Socket[Any]) -> list[zmq.Socket[Any]]:
        """Guard this server; returns the sockets to poll for reading before `handshakes_refused`."""
        self._gate.watch(server)
        return list(self._gate.sockets())

    @property
    def is_read(self) -> bool:
        """Whether anything has been read yet. Until then no peer may be refused as unknown."""
        return self._store.is_read

    def read_before_leading(self) -> bool:
        """Whether everything that earlier masters have confirmed is known; to be called again until it is."""
        return self._store.read_before_leading()

    def hand_over(self) -> Registry:
        """The registry for the core of a master that leads from now on."""
        self._become(self.registry.but(refused=self._refused))
        self._gate.name_again()
        self._leads = True
        return self.registry

    def handshakes_refused(self) -> list[HandshakeRefused]:
        """Answer peers that want a connection; returns those that were refused."""
        refused = list(self._gate.turn())
        if not self._leads:
            self._refused.update(each.cause for each in refused if each.cause)
        return refused

    def reread(self) -> list[KeyEvent]:
        """Read the `--authorized` file again; returns events for the core. Raises `BadInput` if that fails; then nothing
        changes.
        """
        return self._take(AuthorizedRead(self._read_principals()))

    def news(self) -> list[KeyEvent]:
        """Events for the core: what was written or read meanwhile."""
        return [event for news in self._store.news() for event in self._take(news)]

    def keep(self, action: KeepChange, epoch: int) -> None:
        """Write the change down; `news` has the result."""
        self._store.keep(action.change, epoch)

    def close(self) -> None:
        """Close the gate and the store, before the server is closed: the gate watches its socket."""
        self._gate.close()
        self._store.close()

    def _take(self, news: KeyEvent) -> list[KeyEvent]:
        if not isinstance(news, ChangeKept):
            self._gate.name_again()
        if self._leads:
            return [news]
        if isinstance(news, AuthorizedRead):
            self._become(self.registry.but(file=news.principals))
        elif isinstance(news, EnrolmentRead):
            self._become(self.registry.but(contents=news.contents))
        return []

    def _become(self, registry: Registry) -> None:
        gone = frozenset(self.registry.principals.keys() - registry.principals.keys())
        self.registry = self._gate.registry = registry
        self._cut(gone)


def _open_store(options: MasterOptions, wake: Callable[[], None]) -> KeyStore:
    if options.zookeeper is None:
        return KeyFile(options.state_dir or default_state_dir(), public_of(options.secret))
    access = options.zookeeper_access or derived_access(options.secret)
    return ZooKeeperKeys(options.zookeeper, options.secret, access, options.session_timeout_s, wake)
