"""Access to the slaves' files as the master gives it out: to whom, to what, and at which address."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.files_access import NO_ACCESS, FilesSecret, access_to
from offerd.protocol import files_messages as fm
from offerd_master.core import files
from offerd_master.core.events import EpochRaised, Received, Signed
from offerd_master.principals import Principal

HOST = Principal(name="host", slave=True)
ALICE = Principal(name="alice", roles=("*",), users=("alice",))
OPS = Principal(name="ops", operator=True)
SECRET = FilesSecret(b"s" * 32, 1, "ab" * 32)
LATER = FilesSecret(b"t" * 32, 2, "ab" * 32)
HERE = "10.0.0.1"


def register(slave: SlavePeer, secret: FilesSecret | None = SECRET, ip: str = HERE) -> None:
    """Register as the daemon passes it to the core, with the peer's address."""
    message = slave.cluster.through_codec(m.RegisterSlave(slave.info, files=secret))
    if slave.principal is None:
        slave.cluster.turn(Received(slave.peer, message, ip))
    else:
        slave.cluster.turn(Signed(slave.peer, message, slave.principal, ip))
    slave.slave_id = slave.take(m.SlaveRegistered).slave_id


def slave_at(cluster: ClusterHarness, address: str, who: Principal | None = None, **more: Any) -> SlavePeer:
    slave = cluster.slave("cpus=4,mem=4G", registers=False, files_address=address)
    slave.principal = who
    register(slave, **more)
    return slave


def framework_of(cluster: ClusterHarness, who: Principal) -> FrameworkPeer:
    framework = cluster.framework(registers=False)
    framework.principal = who
    framework.register()
    return framework


def listed(cluster: ClusterHarness, who: Principal | None = None) -> om.SlaveSummary:
    operator = cluster.operator()
    operator.principal = who
    operator.send(om.GetSlaves())
    (summary,) = operator.take(om.Slaves).slaves
    return summary


def test_an_offer_brings_access_for_the_frameworks_owner() -> None:
    cluster = ClusterHarness()
    slave_at(cluster, f"{HERE}:5051", HOST)
    offer = framework_of(cluster, ALICE).offer()
    assert offer.files == access_to(SECRET.secret, 1, f"{HERE}:5051", "ab" * 32, "alice", operator=False)


def test_a_listing_brings_an_operator_access_to_all_and_others_to_their_own() -> None:
    cluster = ClusterHarness()
    slave_at(cluster, f"{HERE}:5051", HOST)
    for who, name, operator in ((OPS, "ops", True), (ALICE, "alice", False)):
        access = listed(cluster, who).files
        assert (access.name, access.operator) == (name, operator)
        assert access.key == access_to(SECRET.secret, 1, "", "", name, operator=operator).key


def test_without_keys_everybody_is_an_operator() -> None:
    cluster = ClusterHarness()
    slave_at(cluster, f"{HERE}:5051")
    assert (listed(cluster).files.operator, listed(cluster).files.name) == (True, "")
    assert not cluster.framework().offer().files.operator


def test_the_secret_itself_is_in_no_listing_and_no_offer() -> None:
    cluster = ClusterHarness()
    slave_at(cluster, f"{HERE}:5051", HOST)
    from offerd.wire.codec import encode_message

    assert SECRET.secret not in encode_message(listed(cluster, OPS))
    assert SECRET.secret not in encode_message(framework_of(cluster, ALICE).offer())


def test_access_is_derived_from_a_new_secret_from_then_on() -> None:
    cluster = ClusterHarness()
    slave = slave_at(cluster, f"{HERE}:5051", HOST)
    assert listed(cluster, OPS).files.generation == 1
    slave.send(fm.FilesSecretChanged(LATER))
    found = listed(cluster, OPS).files
    assert found == access_to(LATER.secret, 2, f"{HERE}:5051", "ab" * 32, "ops", operator=True)


def test_a_slave_without_a_secret_gives_access_to_nothing() -> None:
    cluster = ClusterHarness()
    slave_at(cluster, f"{HERE}:5051", HOST, secret=None)
    assert listed(cluster, OPS).files == NO_ACCESS
    assert framework_of(cluster, ALICE).offer().files == NO_ACCESS


def test_a_page_of_tasks_brings_access_to_each_slave_once() -> None:
    cluster = ClusterHarness()
    slave = slave_at(cluster, f"{HERE}:5051")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("a"), task("b")])
    slave.take(m.RunTasks)
    operator = cluster.operator()
    operator.send(om.GetTasks())
    answer = operator.take(om.Tasks)
    assert len(answer.tasks) == 2
    assert list(answer.files) == [slave.slave_id]
    assert answer.files[slave.slave_id].operator


def test_a_framework_with_executors_on_a_slave_is_handed_the_new_access_at_once() -> None:
    cluster = ClusterHarness()
    slave = slave_at(cluster, f"{HERE}:5051")
    framework, other = cluster.framework(), cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t", "cpus=4,mem=4G")])
    slave.take(m.RunTasks)
    slave.send(fm.FilesSecretChanged(LATER))
    renewed = framework.take(fm.FilesRenewed).files[slave.slave_id]
    assert renewed == access_to(LATER.secret, 2, f"{HERE}:5051", "ab" * 32, "", operator=False)
    cluster.assert_nothing_sent_to(other)


def test_frameworks_with_executors_on_a_slave_get_its_new_port() -> None:
    """Even if these have ended meanwhile: the files of their tasks are still there."""
    cluster = ClusterHarness()
    slave = slave_at(cluster, f"{HERE}:5051")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t", "cpus=4,mem=4G")])
    slave.take(m.RunTasks)
    slave.info = msgspec.structs.replace(slave.info, slave_id=slave.slave_id, files_address=f"{HERE}:6000")
    register(slave)
    assert framework.take(fm.FilesRenewed).files[slave.slave_id].address == f"{HERE}:6000"


def test_a_scheduler_that_comes_back_is_handed_access_again() -> None:
    cluster = ClusterHarness()
    slave = slave_at(cluster, f"{HERE}:5051")
    framework = cluster.framework(failover_timeout_s=60.0)
    framework.accept(framework.offer(), tasks=[task("t", "cpus=4,mem=4G")])
    slave.take(m.RunTasks)
    again = cluster.again(framework)
    again.register()
    assert list(again.take(fm.FilesRenewed).files) == [slave.slave_id]


@pytest.mark.parametrize(
    ("said", "seen", "handed_out"),
    [
        ("10.0.0.1:5051", "10.0.0.1", "10.0.0.1:5051"),
        ("0.0.0.0:5051", "10.0.0.1", "10.0.0.1:5051"),
        ("127.0.0.1:5051", "127.0.0.5", "127.0.0.1:5051"),
        ("10.0.0.9:5051", "127.0.0.1", "10.0.0.9:5051"),
        ("127.0.0.1:80", "10.0.0.1", ""),
        ("10.0.0.9:5051", "10.0.0.1", ""),
        ("169.254.169.254:80", "10.0.0.1", ""),
        ("intranet:80", "10.0.0.1", ""),
        ("\x1b[31m:80", "10.0.0.1", ""),
        ("", "10.0.0.1", ""),
        ("[2001:db8::1]:5051", "2001:db8::1", "[2001:db8::1]:5051"),
        ("[2001:0DB8:0::1]:5051", "2001:db8::1", "[2001:db8::1]:5051"),
        ("[::1]:5051", "::1", "[::1]:5051"),
        ("[::1]:5051", "127.0.0.1", "[::1]:5051"),
        ("[::]:5051", "2001:db8::1", "[2001:db8::1]:5051"),
        ("[::]:5051", "10.0.0.1", "10.0.0.1:5051"),
        ("0.0.0.0:5051", "2001:db8::1", ""),
        ("[2001:db8::9]:5051", "::1", "[2001:db8::9]:5051"),
        ("[2001:db8::9]:5051", "2001:db8::1", ""),
        ("[::1]:5051", "2001:db8::1", ""),
        ("[2001:db8::9]:5051", "fe80::1", ""),
        ("[fe80::1%eth0]:5051", "fe80::1", ""),
        ("::1:5051", "::1", ""),
    ],
)
def test_files_are_served_only_from_the_address_that_the_slave_connects_from(
    said: str, seen: str, handed_out: str
) -> None:
    cluster = ClusterHarness()
    slave_at(cluster, said, HOST, ip=seen)
    summary = listed(cluster, OPS)
    assert (summary.info.files_address, summary.files.address) == (handed_out, handed_out)
    if said and not handed_out:
        assert any("are out of reach" in line.text for line in cluster.logs)


@pytest.mark.parametrize("port", ["", "abc", "\u00b2", "0", "-1", "65536", "9" * 200])
def test_an_invalid_port_is_given_to_nobody(port: str) -> None:
    cluster = ClusterHarness()
    slave_at(cluster, f"127.0.0.1:{port}", HOST, ip="127.0.0.1")
    assert listed(cluster, OPS).files.address == ""
    assert any("are out of reach" in line.text for line in cluster.logs)


def test_a_slave_on_the_masters_host_without_tls_is_found_only_on_loopback() -> None:
    cluster = ClusterHarness()
    slave_at(cluster, "10.0.0.9:80", HOST, ip="127.0.0.1", secret=FilesSecret(b"s" * 32, 1))
    assert listed(cluster, OPS).files == NO_ACCESS


def refuse(cluster: ClusterHarness, *names: str) -> None:
    cluster.core.cluster.out = []
    files.refuse_owners(cluster.core.cluster, names)
    cluster._perform(cluster.core.cluster.out)


def test_refused_owners_are_sent_to_all_slaves_and_to_returning_ones() -> None:
    cluster = ClusterHarness()
    slave = slave_at(cluster, f"{HERE}:5051")
    refuse(cluster)
    cluster.assert_nothing_else_sent()
    refuse(cluster, "alice")
    first = slave.take(fm.RefuseOwners).numbers["alice"]
    refuse(cluster, "bob", "alice")
    again = slave.take(fm.RefuseOwners).numbers
    assert again["alice"] == again["bob"] > first, "a second revocation is news"
    cluster.lose_peer(slave)
    register(slave)
    assert slave.take(fm.RefuseOwners).numbers == again


def test_refusals_of_a_later_master_are_new_to_a_slave() -> None:
    numbers = []
    for epoch in (1_790_000_000_000, 1_790_000_000_001):
        cluster = ClusterHarness()
        cluster.turn(EpochRaised(epoch))
        slave = slave_at(cluster, f"{HERE}:5051")
        refuse(cluster, "alice")
        numbers.append(slave.take(fm.RefuseOwners).numbers["alice"])
    assert numbers == sorted(set(numbers))
