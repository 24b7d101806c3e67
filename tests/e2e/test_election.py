"""Candidates and detectors with a real ZooKeeper: one leads, and a deposed leader knows it before the next leads."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import wait_until
from helpers.ensemble import Ensemble, needs_zookeeper
from offerd.masters.detector import LeaderDetector, find_leader
from offerd.masters.leader import ZooKeeperAddress, address_of, describe_master
from offerd.masters.zookeeper_access import new_client
from offerd_master.election import Election, Leading, Out, StandingBy, lease_clock

pytestmark = needs_zookeeper

SESSION_S = 2.0


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    with Ensemble(tmp_path_factory.mktemp("zookeeper")) as ensemble:
        yield ensemble


@pytest.fixture
def address(ensemble: Ensemble, request: pytest.FixtureRequest) -> ZooKeeperAddress:
    """A ZooKeeper path for this test."""
    return ensemble.address._replace(path=f"/{request.node.name}")


class Freezable(Ensemble):
    def freeze(self, number: int) -> None:
        """Stop the server: it keeps its connections and does nothing."""
        self._processes[number].send_signal(signal.SIGSTOP)


class Candidate(Election):
    """A master's candidacy without the master."""

    def __init__(self, address: ZooKeeperAddress, port: int) -> None:
        self.changes = 0
        self.at = f"127.0.0.1:{port}"
        super().__init__(
            address, describe_master(f"M-{port}", self.at, "host", "1"), SESSION_S, self._count_change
        )

    def _count_change(self) -> None:
        self.changes += 1

    def wait_to_lead(self) -> Leading:
        wait_until(lambda: isinstance(self.place, Leading), f"{self.at} to lead")
        assert isinstance(self.place, Leading)
        return self.place

    def wait_to_follow(self, leader: Candidate) -> None:
        wait_until(lambda: self.place == StandingBy(f"tcp://{leader.at}"), f"{self.at} to follow {leader.at}")


def test_the_first_master_leads_and_the_second_takes_over_in_a_later_epoch(address: ZooKeeperAddress) -> None:
    first = Candidate(address, 1001)
    before = first.wait_to_lead()
    second = Candidate(address, 1002)
    try:
        second.wait_to_follow(first)
        assert find_leader(address, 5) == "tcp://127.0.0.1:1001"
        first.close()
        after = second.wait_to_lead()
        assert after.epoch > before.epoch
        assert find_leader(address, 5) == "tcp://127.0.0.1:1002"
    finally:
        second.close()


def test_zookeeper_nodes_have_the_format_of_mesos(address: ZooKeeperAddress) -> None:
    candidate = Candidate(address, 1001)
    client = new_client(address)
    client.start()
    try:
        candidate.wait_to_lead()
        (name,) = (child for child in client.get_children(address.path) if child != "epoch")
        assert name == "json.info_0000000000"
        data, stat = client.get(f"{address.path}/{name}")
        assert stat.ephemeralOwner
        info = json.loads(data)
        assert info["address"] == {"hostname": "host", "ip": "127.0.0.1", "port": 1001}
        assert (info["ip"], info["port"], info["pid"]) == (16777343, 1001, "master@127.0.0.1:1001")
        assert address_of(data) == "tcp://127.0.0.1:1001"
    finally:
        client.stop()
        client.close()
        candidate.close()


def test_leader_whose_node_is_gone_is_out_for_good(address: ZooKeeperAddress) -> None:
    candidate = Candidate(address, 1001)
    client = new_client(address)
    client.start()
    try:
        candidate.wait_to_lead()
        client.delete(f"{address.path}/json.info_0000000000")
        wait_until(lambda: isinstance(candidate.place, Out), "the leader to notice")
    finally:
        client.stop()
        client.close()
        candidate.close()


def test_lease_is_renewed_and_never_reaches_beyond_the_session(address: ZooKeeperAddress) -> None:
    candidate = Candidate(address, 1001)
    try:
        first = candidate.wait_to_lead()
        assert first.until < lease_clock() + SESSION_S
        wait_until(
            lambda: isinstance(candidate.place, Leading) and candidate.place.until > first.until + SESSION_S,
            "the lease to be renewed several times",
        )
        assert candidate.changes == 1, "a renewal does not wake the candidate"
    finally:
        candidate.close()


def test_a_renewal_is_a_write_that_does_not_notify_other_candidates(address: ZooKeeperAddress) -> None:
    candidate = Candidate(address, 1001)
    client = new_client(address)
    client.start()
    try:
        first = candidate.wait_to_lead()
        heard: list[object] = []
        (name,) = (
            child for child in client.get_children(address.path, watch=heard.append) if child != "epoch"
        )
        before, stat = client.get(f"{address.path}/{name}")
        wait_until(lambda: candidate.wait_to_lead().until > first.until + SESSION_S, "several renewals")
        after, later = client.get(f"{address.path}/{name}")
        assert after == before
        assert later.version > stat.version
        assert not heard
    finally:
        client.stop()
        client.close()
        candidate.close()


class Replaced(Candidate):
    """A leader whose node somebody removes and makes again between its first look at it and its renewal."""

    def _confirm(self) -> float:
        if not self.is_replaced:
            self._client.exists = self._look_and_replace
        return super()._confirm()

    is_replaced = False

    def _look_and_replace(self, path: str) -> object:
        del self._client.exists
        found = self._client.exists(path)
        self.other = new_client(self.address)
        self.other.start()
        swap = self.other.transaction()
        swap.delete(path)
        swap.create(path, b"another", ephemeral=True)
        swap.commit()
        self.is_replaced = True
        return found


def test_a_leader_does_not_touch_a_node_that_another_master_has_made_again(address: ZooKeeperAddress) -> None:
    """Node names repeat if somebody has removed the whole path."""
    candidate = Replaced(address, 1001)
    try:
        wait_until(lambda: isinstance(candidate.place, Out), "the leader to notice")
        assert candidate.is_replaced
        assert candidate.other.get(f"{address.path}/json.info_0000000000")[0] == b"another"
        candidate.other.stop()
        candidate.other.close()
    finally:
        candidate.close()


def test_a_leader_that_learns_of_a_later_epoch_takes_a_higher_one_if_nobody_has_led_since(
    address: ZooKeeperAddress,
) -> None:
    candidate = Candidate(address, 1001)
    try:
        later = candidate.wait_to_lead().epoch + 10**9
        candidate.raise_epoch(later)
        wait_until(
            lambda: isinstance(candidate.place, Leading) and candidate.place.epoch == later + 1,
            "the epoch to be raised",
        )
    finally:
        candidate.close()


def test_a_leader_that_learns_of_a_later_epoch_ends_if_somebody_has_led_since(
    address: ZooKeeperAddress,
) -> None:
    candidate = Candidate(address, 1001)
    client = new_client(address)
    client.start()
    try:
        epoch = candidate.wait_to_lead().epoch
        client.set(f"{address.path}/epoch", b"%d" % (epoch + 5))
        candidate.raise_epoch(epoch + 5)
        wait_until(lambda: isinstance(candidate.place, Out), "the leader to notice")
    finally:
        client.stop()
        client.close()
        candidate.close()


def test_a_detector_reports_each_new_leader_through_its_descriptor(address: ZooKeeperAddress) -> None:
    detector = LeaderDetector(address)
    first = Candidate(address, 1001)
    second: Candidate | None = None
    try:
        wait_until(lambda: detector.taken() == "tcp://127.0.0.1:1001", "the first leader to be found")
        second = Candidate(address, 1002)
        second.wait_to_follow(first)
        first.close()
        wait_until(lambda: detector.taken() == "tcp://127.0.0.1:1002", "the second leader to be found")
    finally:
        detector.close()
        if second is not None:
            second.close()


def test_an_election_ends_soon_without_a_reachable_zookeeper() -> None:
    nowhere = ZooKeeperAddress("127.0.0.1:9", "/offerd")
    detector, candidate = LeaderDetector(nowhere), Candidate(nowhere, 1001)
    begun = time.monotonic()
    detector.close()
    candidate.close()
    assert time.monotonic() - begun < 5
    assert find_leader(nowhere, 0.2) == ""
    assert not [
        thread.name for thread in threading.enumerate() if thread.name in ("election", "leader-detector")
    ]


def test_an_isolated_server_renews_no_lease_though_it_still_answers(tmp_path: Path) -> None:
    """Until it notices (syncLimit, longer than the session) it answers reads, while the others may end the session."""
    ensemble = Freezable(tmp_path, servers=3)
    with ensemble:
        alone = ensemble.modes().index("follower")
        only = ensemble.address._replace(hosts=ensemble.address.hosts.split(",")[alone])
        candidate = Candidate(only, 1001)
        client = new_client(only)
        client.start()
        try:
            candidate.wait_to_lead()
            for number in {0, 1, 2} - {alone}:
                ensemble.freeze(number)
            frozen_at = lease_clock()
            assert client.exists(only.path), "reads are answered"
            wait_until(lambda: lease_clock() > frozen_at + SESSION_S, "the session to be over for the others")
            place = candidate.place
            assert not isinstance(place, Leading) or place.until < frozen_at + SESSION_S
        finally:
            client.stop()
            client.close()
            candidate.close()


def test_without_a_majority_nobody_leads_and_afterwards_one_does(tmp_path: Path) -> None:
    with Ensemble(tmp_path, servers=3) as ensemble:
        first, second = Candidate(ensemble.address, 1001), Candidate(ensemble.address, 1002)
        third: Candidate | None = None
        try:
            wait_until(
                lambda: isinstance(first.place, Leading) or isinstance(second.place, Leading), "a leader"
            )
            leader, other = (first, second) if isinstance(first.place, Leading) else (second, first)
            other.wait_to_follow(leader)
            # one server of three: nothing changes
            victim = ensemble.modes().index("follower")
            ensemble.kill(victim)
            lease = leader.wait_to_lead().until
            wait_until(lambda: leader.wait_to_lead().until > lease + SESSION_S, "the leader to lead on")
            ensemble.kill(next(i for i, mode in enumerate(ensemble.modes()) if mode))
            stops_at = leader.place.until if isinstance(leader.place, Leading) else 0.0
            wait_until(lambda: lease_clock() > stops_at + SESSION_S, "time to pass")
            assert not isinstance(leader.place, Leading) or leader.place.until < lease_clock()
            assert not isinstance(other.place, Leading)
            ensemble.start(victim)
            third = Candidate(ensemble.address, 1003)
            wait_until(
                lambda: any(
                    isinstance(c.place, Leading) and c.place.until > lease_clock()
                    for c in (first, second, third)
                    if c is not None
                ),
                "one to lead again",
                30,
            )
        finally:
            for candidate in (first, second, third):
                if candidate is not None:
                    candidate.close()
