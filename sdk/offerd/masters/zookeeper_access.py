"""Clients of ZooKeeper: how they authenticate, who may use their nodes, and checks on a server's answers.

Only masters write; all others read who leads. So masters have a name and a password (ZooKeeper's scheme `digest`), derived from
their secret key, which all masters of a cluster share, or read from a file. ZooKeeper keeps an access control list (ACL) with
each node and inherits none, so each node is made with its own. `new_client` makes nodes for masters alone by default.

Passwords are sent unencrypted, and a server may be anybody's. So nothing it sends is believed: answers are bounded before they
are read, and an invalid one costs the connection, not kazoo's thread.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq.utils.z85

from offerd.credentials.trusted_files import read_trusted
from offerd.errors import BadInput

if TYPE_CHECKING:
    from kazoo.client import KazooClient
    from kazoo.security import ACL

    from offerd.masters.leader import ZooKeeperAddress

log = logging.getLogger("offerd.zookeeper")

SESSION_TIMEOUT_S = 10.0
CONNECT_AGAIN_MAX_S = 1.0
MAX_ANSWER_BYTES = 4 << 20
"""Largest answer. Servers refuse requests above 1 MiB (`jute.maxbuffer`), so no node is larger; a listing may be."""
MASTERS = "offerd-masters"
_CREDENTIALS = re.compile(r"[\x21-\x39\x3b-\x7e]{1,100}:[\x21-\x7e]{1,200}")


class Access(NamedTuple):
    """The masters' name and password for ZooKeeper."""

    name: str
    password: str

    @property
    def auth_data(self) -> list[tuple[str, str]]:
        """In kazoo's form, which sends it to the server with each connection."""
        return [("digest", f"{self.name}:{self.password}")]

    def acl(self, *, world_may_read: bool = False) -> list[ACL]:
        """The list for a node of ours: masters have all rights, others none, or that to read the node and list its children."""
        from kazoo.security import READ_ACL_UNSAFE, make_digest_acl

        ours = make_digest_acl(self.name, self.password, all=True)
        return [ours, *(READ_ACL_UNSAFE if world_may_read else [])]

    def guards(self, acl: list[ACL]) -> bool:
        """Whether only masters can change a node with this list."""
        from kazoo.security import Permissions

        (ours,) = self.acl()
        return all(entry.id == ours.id or not entry.perms & ~Permissions.READ for entry in acl)


def derived_access(secret: str) -> Access:
    """The access of masters with this secret key (Z85). The password reveals nothing about the key."""
    key: bytes = zmq.utils.z85.decode(secret)
    return Access(MASTERS, hmac.new(key, b"offerd: password for ZooKeeper", hashlib.sha256).hexdigest())


def read_access(path: str | os.PathLike[str]) -> Access:
    """The access in a file with one line `NAME:PASSWORD`. Raises `BadInput`, also if others may read the file."""
    try:
        line = read_trusted(path, "the file of credentials", secret=True).decode("ascii", "replace").strip()
    except OSError as error:
        raise BadInput(f"cannot read the file of credentials {path}: {error.strerror}") from None
    if not _CREDENTIALS.fullmatch(line):
        raise BadInput(
            f"{path} holds no credentials for ZooKeeper; write one line NAME:PASSWORD, without blanks"
        )
    name, _, password = line.partition(":")
    return Access(name, password)


def new_client(
    address: ZooKeeperAddress, session_timeout_s: float = SESSION_TIMEOUT_S, access: Access | None = None
) -> KazooClient:
    """A client, not started. It tries for ever, at short intervals, to connect to any of the servers. With `access`, nodes are
    made for masters alone; otherwise for everybody.
    """
    from kazoo.client import KazooClient
    from kazoo.retry import KazooRetry

    again = KazooRetry(max_tries=-1, delay=0.05, max_delay=CONNECT_AGAIN_MAX_S)
    quiet = logging.getLogger("offerd.zookeeper.kazoo")
    quiet.setLevel(logging.CRITICAL + 1)  # we log what matters about the connection ourselves
    client = KazooClient(
        address.hosts,
        timeout=session_timeout_s,
        connection_retry=again,
        logger=quiet,
        auth_data=access.auth_data if access is not None else None,
        default_acl=access.acl() if access is not None else None,
    )
    _guard(client)
    return client


def _guard(client: KazooClient) -> None:
    """Bound what kazoo believes: an unreadable answer would end its thread for good, and a false length take all memory."""
    from kazoo.exceptions import ConnectionDropped, ConnectionLoss
    from kazoo.protocol.connection import STOP_CONNECTING
    from kazoo.protocol.states import KeeperState

    handler: Any = client._connection
    read, answered, attempt = handler._read, handler._read_response, handler._connect_attempt

    def read_bounded(length: int, timeout_s: float) -> bytes:
        if not 0 <= length <= MAX_ANSWER_BYTES:
            raise ConnectionDropped(f"an answer of {length} bytes")
        answer: bytes = read(length, timeout_s)
        return answer

    def answered_somehow(header: Any, *rest: Any) -> Any:
        _, waiting, _ = client._pending[0] if client._pending else (None, None, None)
        try:
            return answered(header, *rest)
        except Exception:
            if waiting is not None and not waiting.ready():
                waiting.set_exception(ConnectionLoss())  # the caller would wait for ever
            raise

    def attempt_again(*arguments: Any) -> Any:
        try:
            status = attempt(*arguments)
        except Exception as error:  # marked: nonsense from a server costs this connection only
            note_nonsense(error)
            status = None
            client._session_callback(KeeperState.CONNECTING)
        # Our credentials are always well-formed: only a false server refuses them.
        return None if status is STOP_CONNECTING and not client._stopped.is_set() else status

    handler._read, handler._read_response, handler._connect_attempt = (
        read_bounded,
        answered_somehow,
        attempt_again,
    )


_noted: set[type[Exception]] = set()


def note_nonsense(error: Exception) -> None:
    """Data from ZooKeeper could not be used. It is logged once for each type of error, as it may recur for ever."""
    if type(error) not in _noted:
        _noted.add(type(error))
        log.warning(
            "ZooKeeper holds or sends what makes no sense (%s); going on without it", type(error).__name__
        )
