"""The addresses of this host: by which others reach it, and by which it reaches one of them."""

from __future__ import annotations

import ipaddress
import socket

LOOPBACK = "127.0.0.1"
_OF_CONTAINERS = ("docker", "br-", "veth", "virbr", "podman", "cni", "lxc")
"""Interfaces to what runs on this host alone."""


def address_towards(host: str) -> str:
    """Ours on the way to this host; empty if there is no way, or no such host. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def own_address() -> str:
    """By which other hosts most likely reach this one: that of the default route, else of the first interface that leads out.
    Loopback if there is none.
    """
    import psutil

    towards = address_towards("192.0.2.1")  # an address that documents use: what counts is the route there
    if towards and not ipaddress.ip_address(towards).is_loopback:
        return towards
    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        if name not in up or name.startswith(_OF_CONTAINERS):
            continue
        for each in addresses:
            if each.family == socket.AF_INET and not ipaddress.ip_address(each.address).is_loopback:
                return str(each.address)
    return LOOPBACK
