"""Whether this host has IPv6 on loopback."""

from __future__ import annotations

import socket

from offerd.wire.routes import bound

NO_IPV6 = "no IPv6 on loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0, and a kernel without ipv6.disable=1"


def has_ipv6() -> bool:
    """Whether ::1 can be listened on."""
    try:
        with bound("::1", 0, socket.SOCK_STREAM):
            return True
    except OSError:
        return False
