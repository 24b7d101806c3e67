"""Addresses as people write them and as sockets take them: the one place that takes `HOST:PORT` apart and joins it.

A host is a name, an IPv4 address or an IPv6 address. An IPv6 address stands in brackets wherever a port may follow, as in
`[::1]:5060`, and without them elsewhere. A link-local address (fe80::/10) needs the interface, as in `[fe80::1%eth0]:5060`:
one may connect to it, but it is never passed on to other hosts, whose interfaces have other names. Nothing here asks the
network.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from offerd.errors import BadInput

TCP = "tcp://"
LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"
ANY_6 = "::"
"""All addresses of this host, IPv4 included."""

_NAME = re.compile(r"[\w.-]+")
_IN_BRACKETS = re.compile(r"\[([^][]*)\](.*)", re.DOTALL)
_INTERFACE = re.compile(r"[\w.@-]{1,15}", re.ASCII)


class HostPort(NamedTuple):
    """`host` without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str, default_port: int = 0) -> HostPort:
    """Read `HOST:PORT` or `tcp://HOST:PORT`, or `HOST` alone where there is a usual port. Raises `BadInput` with one line."""
    rest = text.removeprefix(TCP)
    if "/" in rest:
        raise _fault(text, "", default_port)
    bracketed = _IN_BRACKETS.fullmatch(rest)
    if bracketed is not None:
        host, colon, port = bracketed[1], bracketed[2][:1], bracketed[2][1:]
    elif rest.count(":") > 1:
        raise _fault(text, "an IPv6 address stands in brackets", default_port, example="[::1]")
    else:
        host, colon, port = rest.partition(":")
    if not colon and default_port:
        port = str(default_port)
    elif colon != ":":
        raise _fault(text, "it names no port" if not colon else "", default_port)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise _fault(text, f"{port[:16]!r} is not a port" if port else "it names no port", default_port)
    return HostPort(_host(text, host, default_port, is_bracketed=bracketed is not None), int(port))


def _host(text: str, host: str, default_port: int, *, is_bracketed: bool) -> str:
    if not is_bracketed:
        if not _NAME.fullmatch(host):
            raise _fault(text, "" if host else "it names no host", default_port)
        return host
    try:
        found = canonical(host)
    except ValueError:
        raise _fault(text, f"{host[:64]!r} is not an IPv6 address", default_port, example="[::1]") from None
    if is_link_local(found) and "%" not in found:
        raise _fault(text, "it does not say on which interface", default_port, example=f"[{found}%eth0]")
    return found


def _fault(text: str, why: str, default_port: int, *, example: str = LOOPBACK) -> BadInput:
    what = f"{text!r} is not an address{f': {why}' if why else ''}"
    return BadInput(f"{what}; write HOST:PORT, as in {example}:{default_port or 5060}")


def host_of(address: str) -> str:
    """The host of a `HOST:PORT` such as `Offer.files_address`, without the brackets of an IPv6 address; empty if the address is
    empty. Raises `BadInput` for an invalid address.
    """
    return parse(address).host if address else ""


def tcp(text: str, default_port: int = 0) -> str:
    """The same as a ZeroMQ address, `tcp://HOST:PORT`. Raises `BadInput`."""
    return f"{TCP}{parse(text, default_port)}"


def listening_ip(text: str, option: str = "--ip") -> str:
    """This host's address to pass on to others, in its shortest form; `localhost` is loopback. Raises `BadInput`."""
    if text == "localhost":
        return LOOPBACK
    try:
        ip = canonical(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        raise BadInput(
            f"{option} {text!r} is not an IP address; write one of this host's, as in 127.0.0.1 or ::1"
        ) from None
    if is_link_local(ip):
        raise BadInput(
            f"{option} {ip}: a link-local address is valid on one link only, so other hosts cannot use it; write another"
        )
    if ipaddress.ip_address(ip).is_multicast:
        raise BadInput(
            f"{option} {ip}: a multicast address does not belong to a host; write one of this host's addresses"
        )
    return ip


# -- IP addresses alone -------------------------------------------------------------------------------------------------


def canonical(text: str) -> str:
    """An IP address in its shortest form, without brackets; IPv4 that an IPv6 socket writes as ::ffff:127.0.0.1 becomes IPv4.

    Raises `ValueError` for anything else, such as a name.
    """
    ip, percent, interface = text.partition("%")
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None and not percent:
        return str(address.ipv4_mapped)
    if percent and not (is_link_local(ip) and ":" in ip and _INTERFACE.fullmatch(interface)):
        raise ValueError(f"{text!r} is not the address of an interface")
    return f"{address}{percent}{interface}"


def is_ip(host: str) -> bool:
    """Whether this is an IP address, not a name."""
    try:
        canonical(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether this is loopback's name or one of its addresses; names are not looked up."""
    return host == "localhost" or (is_ip(host) and ipaddress.ip_address(canonical(host)).is_loopback)


def is_link_local(host: str) -> bool:
    """Whether it is an IPv6 address that is valid on one link only."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.version == 6 and address.is_link_local


def is_any(host: str) -> bool:
    """Whether it stands for all addresses of a host."""
    return host in (ANY, ANY_6)
