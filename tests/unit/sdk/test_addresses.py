"""How addresses are taken apart, joined and compared, IPv6 ones too."""

from __future__ import annotations

import pytest

from offerd.addresses import (
    HostPort,
    canonical,
    host_of,
    is_any,
    is_ip,
    is_link_local,
    is_loopback,
    listening_ip,
    parse,
    tcp,
)
from offerd.errors import BadInput


@pytest.mark.parametrize(
    ("written", "host", "port", "again"),
    [
        ("127.0.0.1", "127.0.0.1", 5060, "127.0.0.1:5060"),
        ("host.example:77", "host.example", 77, "host.example:77"),
        ("tcp://host", "host", 5060, "host:5060"),
        ("[::1]:7", "::1", 7, "[::1]:7"),
        ("[::1]", "::1", 5060, "[::1]:5060"),
        ("tcp://[::]:7", "::", 7, "[::]:7"),
        ("[0:0:0:0:0:0:0:1]:7", "::1", 7, "[::1]:7"),
        ("[2001:DB8:0:0::A]:7", "2001:db8::a", 7, "[2001:db8::a]:7"),
        ("[::ffff:10.0.0.1]:7", "10.0.0.1", 7, "10.0.0.1:7"),
        ("[fe80::1%eth0]:7", "fe80::1%eth0", 7, "[fe80::1%eth0]:7"),
        ("[fe80::1%eth0.100]:7", "fe80::1%eth0.100", 7, "[fe80::1%eth0.100]:7"),
    ],
)
def test_addresses_are_completed_and_stand_in_one_form(
    written: str, host: str, port: int, again: str
) -> None:
    found = parse(written, 5060)
    assert (found, str(found), tcp(written, 5060)) == (HostPort(host, port), again, f"tcp://{again}")
    assert (parse(again), host_of(again)) == (found, host)


BAD = [
    ("", "names no host"),
    (":5060", "names no host"),
    ("host:", "names no port"),
    ("host:x", "'x' is not a port"),
    ("host:0", "'0' is not a port"),
    ("host:65536", "'65536' is not a port"),
    ("host:99999", "'99999' is not a port"),
    ("host:²", "is not a port"),
    ("host:" + "1" * 5000, "is not a port"),
    ("host:-1", "'-1' is not a port"),
    ("http://host:80", "is not an address; write HOST:PORT"),
    ("http://[::1]:80", "is not an address; write HOST:PORT"),
    ("zk://host:80/p", "is not an address; write HOST:PORT"),
    ("a;b", "is not an address; write HOST:PORT"),
    ("a b:1", "is not an address; write HOST:PORT"),
    ("user@host:1", "is not an address; write HOST:PORT"),
    ("*:5060", "is not an address; write HOST:PORT"),
    ("::1", "an IPv6 address stands in brackets; write HOST:PORT, as in [::1]:5060"),
    ("::1:5060", "an IPv6 address stands in brackets; write HOST:PORT, as in [::1]:5060"),
    ("a:b:1", "an IPv6 address stands in brackets"),
    ("[::1]:", "names no port"),
    ("[::1]5060", "is not an address; write HOST:PORT"),
    ("[::1", "an IPv6 address stands in brackets"),
    ("::1]:5060", "an IPv6 address stands in brackets"),
    ("[]:5060", "'' is not an IPv6 address"),
    ("[host]:5060", "'host' is not an IPv6 address"),
    ("[::1%lo]:5060", "'::1%lo' is not an IPv6 address"),
    ("[fe80::1%]:5060", "is not an IPv6 address"),
    ("[fe80::1%a b]:5060", "is not an IPv6 address"),
    ("[fe80::1]:5060", "does not say on which interface; write HOST:PORT, as in [fe80::1%eth0]:5060"),
    ("[[::1]]:5060", "is not an address"),
]


@pytest.mark.parametrize(("written", "why"), BAD)
def test_an_invalid_address_is_an_error_of_one_line(written: str, why: str) -> None:
    with pytest.raises(BadInput) as error:
        parse(written, 5060)
    said = str(error.value)
    assert why in said
    assert ("is not an address" in said, "write HOST:PORT, as in " in said, "\n" in said) == (
        True,
        True,
        False,
    )


@pytest.mark.parametrize("written", ["host", "127.0.0.1", "[::1]"])
def test_without_a_usual_port_the_port_must_be_named(written: str) -> None:
    with pytest.raises(BadInput, match="it names no port"):
        parse(written)


@pytest.mark.parametrize(
    ("written", "ip"),
    [
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::1]", "::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
    ],
)
def test_where_to_listen_is_an_address_with_or_without_brackets(written: str, ip: str) -> None:
    assert listening_ip(written) == ip


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is not an IP address"),
        ("host", "is not an IP address"),
        ("[::1", "is not an IP address"),
        ("::1:5060:x", "is not an IP address"),
        ("[::1]:5060", "is not an IP address"),
        ("127.0.0.1:5060", "is not an IP address"),
        ("1.2.3", "is not an IP address"),
        ("fe80::1%eth0", "link-local"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
        ("224.0.0.1", "multicast"),
    ],
)
def test_an_address_that_others_cannot_reach_is_an_error_of_one_line(written: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as error:
        listening_ip(written, "--advertise")
    assert str(error.value).startswith("--advertise ")
    assert "\n" not in str(error.value)


def test_kinds_of_hosts_are_distinguished() -> None:
    loopback = ["localhost", "127.0.0.1", "127.3.2.1", "::1", "0:0::1", "::ffff:127.0.0.1"]
    others = ["10.0.0.1", "2001:db8::1", "fe80::1%eth0", "localhost.example", "", "::"]
    assert [is_loopback(host) for host in loopback + others] == [True] * 6 + [False] * 6
    hosts = ["fe80::1", "fe80::1%eth0", "169.254.1.1", "2001:db8::1", "host"]
    assert [is_link_local(host) for host in hosts] == [True, True, False, False, False]
    assert [is_ip(host) for host in hosts] == [True, True, True, True, False]
    assert [is_any(host) for host in ["0.0.0.0", "::", "::1", "host"]] == [True, True, False, False]
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        canonical("1.2.3")
