"""Finds the leading master in ZooKeeper, and follows changes.

kazoo has threads of its own, and so has the detector: a descriptor becomes readable, and the daemon's loop then reads `leader`.
While ZooKeeper cannot be reached, the last leader found is kept: it may well lead, and otherwise it has ended by itself.
kazoo is only imported when a ZooKeeper is used.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from offerd.masters.leader import ZooKeeperAddress, address_of, in_line
from offerd.masters.zookeeper_access import CONNECT_AGAIN_MAX_S, new_client, note_nonsense
from offerd.masters.zookeeper_thread import ZooKeeperThread

if TYPE_CHECKING:
    from kazoo.client import KazooClient


class LeaderDetector:
    """Watches who leads, until closed. `fd` becomes readable when `leader` changes."""

    def __init__(self, address: ZooKeeperAddress) -> None:
        self.address = address
        self.leader = ""
        """`tcp://IP:PORT`; empty until one is found."""
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._client = new_client(address)
        self._thread = ZooKeeperThread(self._client, "leader-detector", self._look, CONNECT_AGAIN_MAX_S)
        self._client.add_listener(self._poke)
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether a ZooKeeper server answers now."""
        return bool(self._client.connected)

    def taken(self) -> str:
        """The leader; `fd` is reset until it changes."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        return self.leader

    def close(self) -> None:
        """End the threads."""
        self._thread.close()
        os.close(self.fd)

    def _poke(self, _event: Any) -> None:
        """A watch has fired or the session has changed."""
        self._thread.poke()

    def _look(self) -> None:
        found = read_leader(self._client, self.address.path, self._poke)
        if found and found != self.leader:
            self.leader = found
            os.eventfd_write(self.fd, 1)


def read_leader(client: KazooClient, path: str, watch: Any = None) -> str:
    """`tcp://IP:PORT` of the master with the smallest node, or an empty string. `watch` is called once when that may have
    changed. Raises `KazooException`.
    """
    from kazoo.exceptions import NoNodeError

    while True:
        try:
            children = client.get_children(path, watch=watch)
        except NoNodeError:
            if client.exists(path, watch=watch) is None:
                return ""
            continue
        for name in in_line(children):
            try:
                data, _ = client.get(f"{path}/{name}")
            except NoNodeError:
                break  # it is gone meanwhile: look again
            return address_of(data)
        else:
            return ""


def find_leader(address: ZooKeeperAddress, timeout_s: float) -> str:
    """Look once, for at most `timeout_s`; an empty string if nobody leads or ZooKeeper does not answer."""
    from kazoo.exceptions import KazooException

    give_up_at = time.monotonic() + timeout_s
    changed = threading.Event()
    client = new_client(address)
    try:
        if not client.start_async().wait(timeout_s):
            return ""
        while (left_s := give_up_at - time.monotonic()) > 0:
            changed.clear()
            try:
                if leader := read_leader(client, address.path, lambda _event: changed.set()):
                    return leader
                changed.wait(left_s)
            except KazooException:
                changed.wait(min(left_s, 0.1))
            except Exception as error:  # marked: ZooKeeper's data may come from anybody
                note_nonsense(error)
                changed.wait(min(left_s, 0.1))
        return ""
    finally:
        client.stop()
        client.close()
