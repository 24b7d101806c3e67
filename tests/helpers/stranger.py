"""Tries what an account without a key can reach on this host: `stranger.py UID HOST:PORT... PATH...`.

Started as root, it becomes that account after its imports, as the account may be unable to read this Python. Prints
a line of JSON for each address or path: what answered, if anything did. A ZeroMQ server that greets and then breaks off has
not answered; one that answers a question has, and so has a file server that gives anything but a refusal.
"""

from __future__ import annotations

import encodings.idna  # needed to look up host names; later it may be unreadable
import json
import os
import socket
import sys

import zmq

from offerd import messages as m
from offerd import operator_messages as om
from offerd.resources import Resources
from offerd.wire import codec

WAIT_S = 2.0
REQUESTS = ("/", "/statistics", "/containers/", "/data/", "/v1/", "/metrics")


def main() -> None:
    assert encodings.idna
    os.chdir("/")
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    for what in sys.argv[2:]:
        answers = path_answers(what) if what.startswith("/") else [*http_answers(what), *zeromq_answers(what)]
        print(json.dumps({"what": what, "answers": answers}))


def http_answers(address: str) -> list[str]:
    """The status lines of answers that are no refusal."""
    host, _, port = address.rpartition(":")
    found = []
    for path in REQUESTS:
        with socket.create_connection((host, int(port)), WAIT_S) as client:
            client.settimeout(WAIT_S)
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            try:
                while piece := client.recv(65536):
                    answer += piece
            except (TimeoutError, ConnectionError):
                pass
        if answer.startswith(b"HTTP/") and answer.split(b" ")[1] not in (b"400", b"401", b"403"):
            found.append(f"GET {path}: {answer[:80]!r}")
    return found


def zeromq_answers(address: str) -> list[str]:
    """The answers of a master, a ZooKeeper or an executors' socket to questions without a key, and with an unknown one."""
    questions = [
        om.GetCluster(), om.GetSlaves(), om.GetTasks(), m.RegisterFramework(m.FrameworkInfo("stranger", user="root")),
        m.RegisterSlave(m.SlaveInfo("stranger", Resources.parse("cpus=1"))),
    ]  # fmt: skip
    found = []
    public, secret = zmq.curve_keypair()
    for server_key in (b"", zmq.curve_keypair()[0]):
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        client = context.socket(zmq.DEALER)
        client.setsockopt(zmq.LINGER, 0)
        if server_key:
            client.setsockopt(zmq.CURVE_PUBLICKEY, public)
            client.setsockopt(zmq.CURVE_SECRETKEY, secret)
            client.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        client.connect(address if "://" in address else f"tcp://{address}")
        for frame in codec.frames(questions):
            client.send(frame)
        if client.poll(int(WAIT_S * 1000)):
            found.append(f"ZeroMQ: {client.recv()[:80]!r}")
        client.close()
        context.term()
    return found


def path_answers(path: str) -> list[str]:
    """Whether a path socket accepts a connection, or a file can be read or listed."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(path)
    except OSError:
        pass
    else:
        return ["the socket takes connections"]
    finally:
        client.close()
    try:
        with open(path, "rb") as file:
            return [f"can be read: {file.read(40)!r}"]
    except OSError:
        return []


if __name__ == "__main__":
    main()
