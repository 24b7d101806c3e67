"""Enrols a public key at a master with a token from `offerd token new`, and asks whether a master knows a key."""

from __future__ import annotations

import sys
import time

import zmq

from offerd.credentials.keys import Keys
from offerd.errors import KeyRefused, OfferdError
from offerd.masters.clusters import Connection
from offerd.masters.detector import find_leader
from offerd.masters.leader import SCHEME, master_address, parse_zookeeper, unreachable
from offerd.operator import OperatorClient
from offerd.operator_messages import Enrolled
from offerd.wire import codec
from offerd.wire.transport import Client, connect, new_context
from offerd.workers import check_threads

TIMEOUT_S = 10.0
TOKEN_REFUSED = (
    "the master refuses this token: it has been used, has expired, was revoked or was not copied whole; "
    "ask for a new one (`offerd token new`)"
)


def enrol(master: str, token: Keys, name: str, public_key: str, timeout_s: float = TIMEOUT_S) -> Enrolled:
    """Enrol this public key as `name`'s at the cluster with this master (or ZooKeeper).

    Raises `OfferdError` with one line, within about `timeout_s`, if the token or the name is refused, if nobody answers, or if
    the server has another key than the token says; `BadInput` for an invalid address.
    """
    deadline = time.monotonic() + timeout_s
    if not is_known(master, token, timeout_s):
        raise KeyRefused(TOKEN_REFUSED)
    left_s = max(1.0, deadline - time.monotonic())
    with OperatorClient(Connection(master_address(master), token), timeout_s=left_s) as client:
        return client.enrol(name, public_key)


def is_known(master: str, keys: Keys, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the master accepts a connection with these keys. Raises `OfferdError` as `enrol` does."""
    deadline = time.monotonic() + timeout_s
    where = address = master_address(master)
    if address.startswith(SCHEME):
        address = find_leader(parse_zookeeper(address), timeout_s)
        if not address:
            raise OfferdError(unreachable(where))
    check_threads("the connection to the master")
    context = new_context()
    client = Client(context, "", codec.to_operator, keys=keys)
    monitor = client.socket.get_monitor_socket(_ENDS)
    try:
        connect(client.socket, address)
        return _handshake(monitor, address, deadline)
    finally:
        client.socket.disable_monitor()
        monitor.close()
        client.close()
        context.term()


_ENDS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_HANG_UPS = 3
"""A master that is only being restarted does not break off so many handshakes in a row."""


def _handshake(monitor: zmq.Socket[bytes], address: str, deadline: float) -> bool:
    """Whether the handshake succeeds. A master with another key closes the connection silently, and ZeroMQ tries for ever."""
    where = address.removeprefix("tcp://")
    hung_up = 0
    while (left_s := deadline - time.monotonic()) > 0 and monitor.poll(int(left_s * 1000) + 1):
        event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return True
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return False
        # A server without keys breaks the protocol: that is certain at the first attempt.
        hung_up += _HANG_UPS if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL else 1
        if hung_up >= _HANG_UPS:
            raise OfferdError(
                f"the server at {where} does not have the key that the token names: is it of another cluster, or was it "
                "not copied whole?"
            )
    raise OfferdError(unreachable(address))
