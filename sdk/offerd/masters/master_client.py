"""The connection to the master that leads: one that was named, or whoever is found in ZooKeeper."""

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
    """A monitored client of `master` (see `master_address`). Where ZooKeeper says who leads, `detector` tells of a new
    leader by its descriptor, and `follow` moves there.
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
        """Whom we try to reach, and what it has said of why it does not take us, for `MasterWatch`."""
        return Peer(
            self.master,
            self.address,
            has_keys=self._keys is not None,
            is_linked=self.link.is_up,
            hears_zookeeper=self.detector is not None and self.detector.is_connected,
            said=said,
        )

    def follow(self) -> bool:
        """Go to the leader. True if that is another one: then `socket` and `link` are others, and nobody there knows us."""
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
