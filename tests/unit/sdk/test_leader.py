"""How masters are named, and what their nodes in ZooKeeper hold."""

from __future__ import annotations

import json

import pytest

from offerd.errors import BadInput
from offerd.leader import address_of, describe_master, in_line, master_address, parse_zookeeper, unreachable


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("zk://a:1,b:2/offerd", "zk://a:1,b:2/offerd"),
        ("a:1/offerd", "zk://a:1/offerd"),
        ("zk://zoo1,zoo2/mesos/one/", "zk://zoo1:2181,zoo2:2181/mesos/one"),
    ],
)
def test_zookeeper_is_named_with_its_servers_and_a_path(text: str, normal: str) -> None:
    assert str(parse_zookeeper(text)) == normal


@pytest.mark.parametrize(
    "text",
    ["", "zk://", "zk://a:1", "zk://a:1/", "zk:///offerd", "a:x/offerd", "a:0/p", "a:70000/p", "a:1,,b:1/p",
     "user:secret@a:1/p", "a:1//p", "a:1/p//q", "a:1/p q"],
)  # fmt: skip
def test_what_names_no_zookeeper_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_zookeeper(text)
    assert "zk://" in str(error.value)
    assert "\n" not in str(error.value)


def test_master_is_an_address_or_a_zookeeper() -> None:
    assert master_address("host") == "tcp://host:5060"
    assert master_address("zk://a/p") == "zk://a:2181/p"


def test_unreachable_zookeeper_is_told_with_what_to_look_at() -> None:
    assert "--zk a:2181/p" in unreachable("zk://a:2181/p")
    assert "offerd local" in unreachable("tcp://a:5060")


def test_line_is_ordered_by_number_and_holds_nothing_else() -> None:
    children = [
        "json.info_0000000010",
        "epoch",
        "json.info_9999999999",
        "log_replicas",
        "json.info_0000000009",
        "json.info_x",
    ]
    assert in_line(children) == ["json.info_0000000009", "json.info_0000000010", "json.info_9999999999"]


def test_node_tells_the_address() -> None:
    assert address_of(describe_master("M-1", "10.1.2.3:5060", "host", "0.1")) == "tcp://10.1.2.3:5060"


@pytest.mark.parametrize(
    "node",
    [b"", b"\xff", b"null", b"[]", b"{}", b'{"address": 1}', b'{"address": {"ip": "a", "port": 1}}',
     json.dumps({"address": {"ip": "1.2.3.4", "port": 99999}}).encode()],
)  # fmt: skip
def test_node_that_cannot_be_read_names_nobody(node: bytes) -> None:
    assert address_of(node) == ""
