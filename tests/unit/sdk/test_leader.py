"""How masters are named, and what their nodes in ZooKeeper hold."""

from __future__ import annotations

import json

import pytest

from offerd.errors import BadInput
from offerd.masters.leader import (
    MAX_EPOCH,
    address_of,
    describe_master,
    epoch_of,
    in_line,
    master_address,
    parse_zookeeper,
    unreachable,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("zk://a:1,b:2/offerd", "zk://a:1,b:2/offerd"),
        ("a:1/offerd", "zk://a:1/offerd"),
        ("zk://zoo1,zoo2/mesos/one/", "zk://zoo1:2181,zoo2:2181/mesos/one"),
        ("zk://[::1]:2181,[2001:DB8::1]/offerd", "zk://[::1]:2181,[2001:db8::1]:2181/offerd"),
    ],
)
def test_zookeeper_is_named_with_its_servers_and_a_path(text: str, normal: str) -> None:
    assert str(parse_zookeeper(text)) == normal


@pytest.mark.parametrize(
    "text",
    ["", "zk://", "zk://a:1", "zk://a:1/", "zk:///offerd", "a:x/offerd", "a:0/p", "a:70000/p", "a:1,,b:1/p",
     "user:secret@a:1/p", "a:1//p", "a:1/p//q", "a:1/p q", "a:²/p", "a:" + "1" * 5000 + "/p", "::1:2181/p",
     "[::1/p", "[host]:1/p", "[fe80::1%eth0]:2181/p", "[fe80::1]:2181/p"],
)  # fmt: skip
def test_an_invalid_zookeeper_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_zookeeper(text)
    assert "zk://" in str(error.value)
    assert "\n" not in str(error.value)


def test_master_is_an_address_or_a_zookeeper() -> None:
    assert master_address("host") == "tcp://host:5060"
    assert master_address("zk://a/p") == "zk://a:2181/p"
    assert master_address("[::1]") == "tcp://[::1]:5060"


def test_an_unreachable_zookeeper_is_an_error_that_says_what_to_check() -> None:
    assert unreachable("zk://a:2181/p").count("a:2181/p") == 1
    assert "offerd local" in unreachable("tcp://127.0.0.1:5060")
    assert "offerd local" in unreachable("tcp://[::1]:5060")


def test_the_line_of_masters_is_ordered_by_number() -> None:
    children = [
        "json.info_0000000010",
        "epoch",
        "json.info_9999999999",
        "log_replicas",
        "json.info_0000000009",
        "json.info_x",
        "json.info_²",
        "json.info_-000000001",
        "json.info_" + "1" * 5000,
        "json.info_1\n",
    ]
    assert in_line(children) == ["json.info_0000000009", "json.info_0000000010", "json.info_9999999999"]


def test_a_node_holds_the_address() -> None:
    assert address_of(describe_master("M-1", "10.1.2.3:5060", "host", "0.1")) == "tcp://10.1.2.3:5060"
    assert (
        address_of(describe_master("M-1", "[2001:db8::1]:5060", "host", "0.1")) == "tcp://[2001:db8::1]:5060"
    )


@pytest.mark.parametrize(
    "node",
    [b"", b"\xff", b"null", b"[]", b"{}", b'{"address": 1}', b'{"address": {"ip": "a", "port": 1}}',
     json.dumps({"address": {"ip": "1.2.3.4", "port": 99999}}).encode(), b"[" * 4000, b"[" * 400_000,
     b'{"address": {"ip": "1.2.3.4", "port": 1e999}}', b'{"address": {"ip": "1.2.3.4", "port": "1"}}',
     b'{"address": {"ip": "1.2.3.4", "port": true}}', b'{"address": {"ip": 16909060, "port": 1}}',
     b'{"address": {"ip": "1.2.3.4", "port": ' + b"1" * 4010 + b"}}",
     b'{"address": {"ip": "1.2.3.4", "port": 1}, "x": "' + b"x" * 5000 + b'"}',
     b'{"address": {"ip": "[::1]", "port": 1}}', b'{"address": {"ip": "fe80::1%eth0", "port": 1}}'],
)  # fmt: skip
def test_node_that_cannot_be_read_names_nobody(node: bytes) -> None:
    assert address_of(node) == ""


def test_epoch_is_a_number_that_one_above_still_fits_into_a_message() -> None:
    assert epoch_of(b"1767225600000") == 1767225600000
    assert epoch_of(b"%d" % MAX_EPOCH) == MAX_EPOCH == 2**63 - 2
    for node in (
        b"",
        b"-1",
        b"1.5",
        b"1\n",
        "²".encode(),
        b"%d" % (2**63 - 1),
        b"9" * 30,
        b"9" * 5000,
        b"\xff",
    ):
        assert epoch_of(node) == 0
