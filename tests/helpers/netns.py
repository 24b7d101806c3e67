"""Hosts as network namespaces: a bridge on this host, and for each host a namespace with one link to it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from types import TracebackType


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10).stdout


class Hosts:
    """A context manager for `number` hosts; `address` is this host's address on their network, `addresses` are theirs.

    With a `network`, as 10.0.0, they are `.1`, `.2`, ... of it, and this host has no address there. With an IPv6 network, as
    fd77::, the hosts have no IPv4 address but loopback's. Needs root. Processes in a namespace are killed at the end.
    """

    def __init__(self, number: int, network: str = "") -> None:
        word = secrets.token_hex(2)
        self.names = [f"offerd-{word}-{host}" for host in range(1, number + 1)]
        self._switch = f"offerd-{word}-switch" if network else ""
        first = 1 if network else 2
        network = network or f"10.{77 + os.getpid() % 100}.{int(word[:2], 16)}"
        self._prefix, self._more, dot = ("64", ["nodad"], "") if ":" in network else ("24", [], ".")
        self.address = "" if self._switch else f"{network}.1"
        self.addresses = [f"{network}{dot}{first + host}" for host in range(number)]
        self._bridge = f"ob-{word}"
        self._links = [f"ov-{word}-{host}" for host in range(1, number + 1)]

    def __enter__(self) -> Hosts:
        try:
            if self._switch:
                _ip("netns", "add", self._switch)
            self._on_bridge("link", "add", self._bridge, "type", "bridge")
            if self.address:
                _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
            self._on_bridge("link", "set", self._bridge, "up")
            for name, link, address in zip(self.names, self._links, self.addresses, strict=True):
                _ip("netns", "add", name)
                _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
                if self._switch:
                    _ip("link", "set", link, "netns", self._switch)
                self._on_bridge("link", "set", link, "master", self._bridge, "up")
                _ip("-n", name, "address", "add", f"{address}/{self._prefix}", "dev", "eth0", *self._more)
                _ip("-n", name, "link", "set", "eth0", "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in [*self.names, *([self._switch] if self._switch else [])]:
            self.kill_all(name)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)

    def _on_bridge(self, *words: str) -> None:
        _ip(*(("-n", self._switch) if self._switch else ()), *words)

    def inside(self, host: int) -> list[str]:
        """The words before a command that is to run on this host (from 0)."""
        return ["ip", "netns", "exec", self.names[host]]

    def unplug(self, host: int) -> None:
        """From now on nothing reaches this host, and no connection breaks."""
        self._on_bridge("link", "set", self._links[host], "down")

    def kill_all(self, name: str) -> None:
        """End whatever runs in a namespace."""
        found = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
        for pid in found.stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
