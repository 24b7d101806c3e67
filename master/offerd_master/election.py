"""Standing for election in ZooKeeper, and leading only while that is certain.

Each master has an ephemeral sequential node; the master with the smallest leads. A leader takes an epoch above all earlier
ones, by a versioned write, so that slaves and schedulers can distinguish it from a deposed leader. It also holds a *lease*. Its
session cannot end before most of the session's time-out has passed since it last requested a write that ZooKeeper then made,
and until then no other master can be elected. A read would not prove that: a server answers it from memory, even one that is
cut off from the others, which may have ended the session meanwhile. A master whose lease is over must stop at once, whatever
else it knows: it may have been frozen for a minute, and its threads learn of that in any order.

kazoo's threads and one of our own do this. The daemon's loop is woken when `place` changes, and checks the lease itself, on
`lease_clock`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offerd.errors import OfferdError
from offerd.masters.leader import EPOCH_NODE, NODE_PREFIX, ZooKeeperAddress, address_of, epoch_of, in_line
from offerd.masters.zookeeper_access import Access, new_client
from offerd.masters.zookeeper_thread import ZooKeeperThread

if TYPE_CHECKING:
    from kazoo.client import KazooClient
    from kazoo.security import ACL

log = logging.getLogger("offerd.master")

CONFIRMATIONS = 5
"""How often per session time-out a leader renews its lease, and a standby looks which master leads."""
LEASE_FRACTION = 0.7
"""The lease, as a fraction of the session's time-out. ZooKeeper counts a session from the last ping that our server passed on
to its leader. That may be half a tick older than our request: a quarter of the time-out, which is at least two ticks. The rest
allows for clocks that run differently.
"""
TRY_AGAIN_S = 0.5


def lease_clock() -> float:
    """Seconds on CLOCK_BOOTTIME (man clock_gettime). Unlike the monotonic clock it runs while the host is suspended, as
    ZooKeeper's does; and nobody can set it.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Deposed(OfferdError):
    """This master no longer leads, or cannot be sure that it does: it must end."""


@dataclass(frozen=True, slots=True)
class StandingBy:
    """Another master leads, at `leader` (`tcp://IP:PORT`; empty if none is known)."""

    leader: str = ""


@dataclass(frozen=True, slots=True)
class Leading:
    """This master leads, in this epoch, at least until `until` (on `lease_clock`)."""

    epoch: int
    until: float


@dataclass(frozen=True, slots=True)
class Out:
    """This master has led and does no longer, or must never lead."""

    why: str


Place = StandingBy | Leading | Out


class Election:
    """One master's candidacy, from its construction to `close`."""

    def __init__(
        self,
        address: ZooKeeperAddress,
        description: bytes,
        session_timeout_s: float,
        changed: Callable[[], None],
        access: Access | None = None,
    ) -> None:
        """`description` is the contents of our node. `changed` is called, in a thread of ours, when `place` has changed. With
        `access`, only masters may write our nodes, and nodes that others may write are not used; without, everybody may.
        """
        self.address = address
        self.place: Place = StandingBy()
        self._path = address.path
        self._description = description
        self._session_timeout_s = session_timeout_s
        self._changed = changed
        self._name = ""
        self._epoch_version = -1
        self._epoch_tried = 0
        self._epoch_wanted = 0
        self._access = access
        self._is_guarded = access is None
        self._client: KazooClient = new_client(address, session_timeout_s, access)
        self._thread = ZooKeeperThread(self._client, "election", self._look, TRY_AGAIN_S)
        self._client.add_listener(self._state_changed)
        self._note_what_is_agreed()
        self._thread.start()

    def raise_epoch(self, seen: int) -> None:
        """A peer has obeyed a leader of this epoch. Take a higher one, unless another master has led after us."""
        self._epoch_wanted = max(self._epoch_wanted, seen + 1)
        self._thread.poke()

    def close(self) -> None:
        """Give up the place: our node is removed at once, and the next master leads."""
        self._thread.close()

    # -- kazoo's threads: these must return at once ---------------------------------------------------------------------

    def _state_changed(self, state: str) -> None:
        if state == "LOST" and isinstance(self.place, Leading):
            self._take(Out("the session with ZooKeeper has ended"))
        self._thread.poke()

    def _poke(self, _event: Any) -> None:
        self._thread.poke()

    def _note_what_is_agreed(self) -> None:
        """ZooKeeper may grant a shorter time-out than requested (at most twenty of its ticks), and kazoo does not report it."""
        handler: Any = self._client._connection
        connect = handler._connect

        def noted(*arguments: Any) -> Any:
            read_timeout_ms, connect_timeout_ms = connect(*arguments)
            self._session_timeout_s = min(self._session_timeout_s, read_timeout_ms * 1.5 / 1000)
            return read_timeout_ms, connect_timeout_ms

        handler._connect = noted

    # -- Our thread -----------------------------------------------------------------------------------------------------

    def _take(self, place: Place) -> None:
        if isinstance(self.place, Out):
            return  # final
        before, self.place = self.place, place
        is_news = type(place) is not type(before) or (isinstance(place, StandingBy) and place != before)
        if is_news or (
            isinstance(place, Leading) and isinstance(before, Leading) and place.epoch != before.epoch
        ):
            self._changed()

    def _look(self) -> float | None:
        """Returns after how long to look again if nothing is heard; None once there is nothing to look for any more."""
        from kazoo.exceptions import NoAuthError

        if isinstance(self.place, Out):
            return None
        try:
            return self._confirm() if isinstance(self.place, Leading) else self._stand()
        except NoAuthError:
            self._take(Out(self._not_let()))
            return None

    def _stand(self) -> float:
        """Stand in line; lead if no master is ahead. Returns how many seconds to wait if nothing happens."""
        client = self._client
        if not client.connected:
            return TRY_AGAIN_S
        client.ensure_path(self._path, acl=self._acl())
        if not self._is_guarded and not self._only_masters_write(self._path):
            return 0.0
        line = in_line(client.get_children(self._path, watch=self._poke))
        name = self._own(line)
        if not name:
            self._enter()
            return 0.0
        if not self._is_guarded:
            # Checked again, because anybody who may write above could replace an empty path. One that holds our node stays.
            nodes = (f"{self._path}/{name}" for name in (EPOCH_NODE, *line))
            if not self._only_masters_write(self._path, *nodes):
                return 0.0
            self._is_guarded = True
        self._name = name
        if line[0] != name:
            from kazoo.exceptions import NoNodeError

            try:
                data, _ = client.get(f"{self._path}/{line[0]}")
            except NoNodeError:
                return 0.0
            self._take(StandingBy(address_of(data)))
            # Not for news, which the watch brings, but to keep our session as fresh as a leader's: the lease counts on that.
            return self._session_timeout_s / CONFIRMATIONS
        asked_at = lease_clock()
        if not self._write_own_once():
            return 0.0
        epoch = self._claim(int(time.time() * 1000))
        if epoch is not None:
            self._take(Leading(epoch, asked_at + LEASE_FRACTION * self._session_timeout_s))
        return 0.0

    def _write_own_once(self) -> bool:
        """Whether our node still exists; after this its version is above 0. If the node has become another's, a renewal
        (`_confirm`) fails by its version, since a new node's is 0.
        """
        from kazoo.exceptions import BadVersionError, NoNodeError

        path = f"{self._path}/{self._name}"
        found = self._client.exists(path)
        if found is None or found.ephemeralOwner != self._session():
            return False
        try:
            self._client.set(path, self._description, version=found.version)
        except (NoNodeError, BadVersionError):
            return False
        return True

    def _own(self, line: list[str]) -> str:
        """Our node: of this session, found by its contents, since the answer to its creation may have been lost."""
        for name in line:
            found = self._client.exists(f"{self._path}/{name}")
            if found is not None and found.ephemeralOwner == self._session():
                return name
        return ""

    def _session(self) -> int:
        session, _ = self._client.client_id or (0, b"")
        return session

    def _enter(self) -> None:
        self._client.create(
            f"{self._path}/{NODE_PREFIX}", self._description, acl=self._acl(), ephemeral=True, sequence=True
        )

    def _acl(self) -> list[ACL] | None:
        """The access to the nodes in which others find the leader. Everything else is made for masters alone (`new_client`)."""
        return None if self._access is None else self._access.acl(world_may_read=True)

    def _only_masters_write(self, *nodes: str) -> bool:
        """Whether only masters can write these nodes, as far as they exist; if not, this master is out."""
        from kazoo.exceptions import NoNodeError
        from kazoo.security import READ_ACL_UNSAFE

        assert self._access is not None
        for node in nodes:
            try:
                acl, _ = self._client.get_acls(node)
            except NoNodeError:
                continue
            if not self._access.guards(acl):
                is_open = any(entry.id.scheme == "world" and entry not in READ_ACL_UNSAFE for entry in acl)
                self._take(Out(self._open(node) if is_open else self._not_let()))
                return False
        return True

    def _open(self, node: str) -> str:
        return (
            f"others may write at {node} in ZooKeeper (an earlier release made it, or a stranger): end all masters, remove it "
            f"with `zkCli.sh -server {self.address.hosts} deleteall {self._path}`, and start them again"
        )

    def _not_let(self) -> str:
        if self._access is None:
            return f"{self.address} in ZooKeeper belongs to masters with a key: give this one that key, or choose another path"
        return (
            f"{self.address} in ZooKeeper belongs to somebody else (masters with another key?): give all masters the same key "
            "(--key) or the same file of credentials (--zk-credentials), or choose another path"
        )

    def _claim(self, at_least: int) -> int | None:
        """Take an epoch above all earlier ones; None if another master was faster. It is at least the wall clock's
        milliseconds, and so above the epochs of masters that ran without ZooKeeper, or whose data were removed.
        """
        from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

        path = f"{self._path}/{EPOCH_NODE}"
        try:
            data, stat = self._client.get(path)
        except NoNodeError:
            try:
                self._client.create(path, b"0")
            except NodeExistsError:
                return None
            return self._claim(at_least)
        epoch = self._epoch_tried = max(epoch_of(data) + 1, at_least)
        try:
            self._epoch_version = self._client.set(path, b"%d" % epoch, version=stat.version).version
        except BadVersionError:
            return None
        return epoch

    def _confirm(self) -> float:
        """Renew the lease if our node still exists; returns when to do so again."""
        from kazoo.exceptions import BadVersionError, NoNodeError

        place = self.place
        assert isinstance(place, Leading)
        timeout_s = self._session_timeout_s
        path = f"{self._path}/{self._name}"
        found = self._client.exists(path)
        if found is None or found.ephemeralOwner != self._session():
            self._take(Out("this master's node in ZooKeeper is gone"))
            return 0.0
        asked_at = lease_clock()
        try:
            # Write the same bytes again: that wakes no watch on the line, but a majority of servers must agree to it.
            self._client.set(path, self._description, version=found.version)
        except (NoNodeError, BadVersionError):
            return 0.0  # we had read old data: look again
        epoch = place.epoch
        if self._epoch_wanted > epoch:
            claimed = self._raise()
            if claimed is None:
                return 0.0
            log.warning(
                "a slave or scheduler has obeyed a later leader: still leading, now in epoch %d", claimed
            )
            epoch = claimed
        self._take(Leading(epoch, asked_at + LEASE_FRACTION * timeout_s))
        return timeout_s / CONFIRMATIONS

    def _raise(self) -> int | None:
        """Take the higher epoch that is wanted. None if it is not certain yet that we have it, or if this master is out."""
        data, stat = self._client.get(f"{self._path}/{EPOCH_NODE}")
        if stat.version == self._epoch_version:
            return self._claim(self._epoch_wanted)
        if stat.version == self._epoch_version + 1 and data == b"%d" % self._epoch_tried:
            # That was our own write: the connection was lost before the answer came.
            self._epoch_version = stat.version
            return self._epoch_tried
        self._take(Out("another master has led since"))
        return None
