"""How this host reaches an address: whether it is its own, from which of its addresses, and over which IP version."""

from __future__ import annotations

import socket

from offerd.addresses import HostPort, canonical, is_ip, is_link_local

FAR, FAR_6 = "192.0.2.1", "2001:db8::1"
"""Addresses reserved for documentation: only the route to them matters."""
_DISCARD = 9
"""The port of a probe that sends nothing."""


def over_ipv6(place: HostPort) -> bool:
    """Whether ZeroMQ must use IPv6 to reach this host.

    For a name, ZeroMQ looks up addresses of one family only, and tries the first. So a name that has both kinds is
    reached over IPv4 (`offerd.masters.absence` reports a host that does not listen there). May take seconds, if a name
    server has to be asked.
    """
    if is_ip(place.host):
        return ":" in place.host
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True  # not known yet: IPv6 also allows IPv4 addresses if there are no others
    return all(family == socket.AF_INET6 for family, *_ in found)


def interface_fault(host: str) -> str:
    """What is wrong with the interface in a link-local address; empty if nothing is, or no interface is named."""
    if not (interface := host.partition("%")[2]):
        return ""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return f"this host has no interface {interface}"
    return ""


def address_towards(host: str, *, ipv6: bool | None = None) -> str:
    """Our own address on the way to this host, over IPv4 if possible; empty if there is no route or no such host. Sends
    nothing.

    `ipv6`: only over IPv6 (True), or only over IPv4 (False).
    """
    try:
        found = socket.getaddrinfo(host, _DISCARD, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ""
    for family, kind, protocol, _, address in sorted(found, key=lambda each: each[0] == socket.AF_INET6):
        if ipv6 is not None and ipv6 != (family == socket.AF_INET6):
            continue
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                own = probe.getsockname()
        except OSError:
            continue
        interface = f"%{socket.if_indextoname(own[3])}" if is_link_local(own[0]) and own[3] else ""
        return canonical(f"{own[0]}{interface}")
    return ""


def is_here(host: str) -> bool:
    """Whether it is clearly an address or name of this host. Asks no other host."""
    if host in ("localhost", socket.gethostname()):
        return True
    if not is_ip(host):
        return False
    try:
        with bound(host, 0, socket.SOCK_DGRAM):
            return True
    except OSError:
        return False


def bound(ip: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket bound to an IP address of this host; bound to `::`, it takes IPv4, too. Raises `OSError` if it cannot be bound.

    A stream socket can be bound while old connections to its port are in TIME_WAIT.
    """
    family, _, protocol, _, address = socket.getaddrinfo(ip, port, type=kind, flags=socket.AI_NUMERICHOST)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened
