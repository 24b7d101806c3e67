"""Routing ids: those that libzmq gives cannot be guessed, because a peer that has taken one beforehand ends the process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import zmq

FIRST_UNSEEDED = 0x6B8B4567
"""Where libzmq begins to count in a process that never seeds `rand()`."""
SIGABRT = -6
SERVER = """
import sys, zmq
from offerd.wire import codec, transport
if "unseeded" in sys.argv:
    transport.scatter_routing_ids = lambda: None
server = transport.Server(transport.new_context(), sys.argv[1], codec.to_master)
print("ready", flush=True)
while True:
    server.socket.poll(60_000)
    for peer, _ in server.drain():
        print(peer.hex(), flush=True)
"""


def start(path: Path, *words: str) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, f"ipc://{path}", *words], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server


def take_names_beforehand(path: Path, count: int = 20) -> None:
    """Connect peers with the names that libzmq would give first, and then a few that get their names from it."""
    with zmq.Context() as context, ExitStack() as sockets:
        for name in (*range(FIRST_UNSEEDED, FIRST_UNSEEDED + count), *[None] * count):
            peer = sockets.enter_context(context.socket(zmq.DEALER))
            peer.linger = 0
            if name is not None:
                peer.setsockopt(zmq.IDENTITY, b"\0" + name.to_bytes(4, "big"))
            peer.connect(f"ipc://{path}")
            peer.send(b"x")
            if name == FIRST_UNSEEDED + count - 1:
                peer.poll(300)  # nobody answers: all of those before are known by then
        peer.poll(500)


def end(server: subprocess.Popen[str]) -> int:
    server.terminate()
    server.communicate()
    return server.returncode


def test_a_peer_that_takes_the_next_name_beforehand_would_end_a_server_that_does_not_seed(
    tmp_path: Path,
) -> None:
    server = start(tmp_path / "s", "unseeded")
    take_names_beforehand(tmp_path / "s")
    assert server.wait(10) == SIGABRT
    end(server)


def test_a_peer_that_takes_the_names_of_unseeded_processes_harms_nobody(tmp_path: Path) -> None:
    server = start(tmp_path / "s")
    take_names_beforehand(tmp_path / "s")
    assert server.poll() is None
    assert end(server) != SIGABRT


def test_names_given_differ_from_one_start_to_the_next(tmp_path: Path) -> None:
    names = set()
    for number in range(3):
        server = start(tmp_path / str(number))
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.connect(f"ipc://{tmp_path / str(number)}")
            peer.send(b"x")
            assert server.stdout is not None
            names.add(server.stdout.readline())
            peer.linger = 0
        end(server)
    assert len(names) == 3


def test_only_the_one_place_that_seeds_makes_server_sockets() -> None:
    root = Path(__file__).resolve().parents[3]
    found = [
        str(path.relative_to(root))
        for folder in (
            "linux",
            "sdk",
            "master",
            "slave",
            "isolation",
            "executors",
            "frameworks",
            "cli",
            "simulator",
        )
        for path in (root / folder).rglob("*.py")
        if re.search(r"zmq\.(ROUTER|STREAM|SERVER)\b", path.read_text())
    ]
    assert found == [os.path.join("sdk", "offerd", "wire", "transport.py")]
