"""The address by which others reach this host."""

from __future__ import annotations

import socket

from offerd.addresses import LOOPBACK, is_link_local, is_loopback
from offerd.wire.routes import FAR, FAR_6, address_towards

_OF_CONTAINERS = ("docker", "br-", "veth", "virbr", "podman", "cni", "lxc")
"""Interfaces that lead only to this host itself."""


def own_address(*, ipv6: bool | None = None) -> str:
    """The address by which other hosts most likely reach this one: that of the default route, else of the first interface that
    leads out. IPv4 is preferred; `ipv6` True allows only IPv6, False only IPv4. Loopback if there is none.
    """
    import psutil

    families = {None: (socket.AF_INET, socket.AF_INET6), False: (socket.AF_INET,), True: (socket.AF_INET6,)}[
        ipv6
    ]
    far = {socket.AF_INET: FAR, socket.AF_INET6: FAR_6}
    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    for family in families:
        towards = address_towards(far[family])
        if towards and _leads_here(towards):
            return towards
        for name, addresses in sorted(psutil.net_if_addrs().items()):
            if name not in up or name.startswith(_OF_CONTAINERS):
                continue
            for each in addresses:
                if each.family == family and _leads_here(each.address):
                    return str(each.address)
    return LOOPBACK


def _leads_here(address: str) -> bool:
    return not is_loopback(address) and not is_link_local(address)
