"""The connection to the leading master: one with a given address, or the leader found in ZooKeeper."""

from __future__ import annotations

from typing import TypeVar

import zmq

from offerd.credentials.keys import Keys
from offerd.masters.absence import Peer
from offerd.masters.detector import LeaderDetector
from offerd.masters.leader import SCHEME, parse_zookeeper
from offerd.wire.codec import Codec
from offerd.wire.transport import Client

M = TypeVar("M")


class MasterClient(Client[M]):
    """A monitored client of `master` (see `master_address`). With ZooKeeper, the descriptor of `detector` becomes readable when
    there is a new leader, and `follow` connects to it.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        master: str,
        codec: Codec[M],
        keys: Keys | None = None,
    ) -> None:
        in_zookeeper = master.startswith(SCHEME)
        super().__init__(context, "" if in_zookeeper else master, codec, monitored=True, keys=keys)
        self.master = master
        self.detector = LeaderDetector(parse_zookeeper(master)) if in_zookeeper else None

    def peer(self, said: str = "") -> Peer:
        """The master that we try to reach, and why it refuses us in its own words, for `MasterWatch`."""
        return Peer(
            self.master,
            self.address,
            has_keys=self._keys is not None,
            is_linked=self.link.is_up,
            hears_zookeeper=self.detector is not None and self.detector.is_connected,
            said=said,
        )

    def follow(self) -> bool:
        """Connect to the leader. True if it has changed: then `socket` and `link` are new, and that master does not know us."""
        if self.detector is None:
            return False
        leader = self.detector.taken()
        if not leader or leader == self.address:
            return False
        self.move(leader)
        return True

    def close(self) -> None:
        super().close()
        if self.detector is not None:
            self.detector.close()
