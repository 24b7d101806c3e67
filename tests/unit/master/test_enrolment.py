"""Joining and revoking as peers see it: the answer comes after the change is safe, and lost rights end what runs by them."""

from __future__ import annotations

import io
from typing import Any

import pytest
import zmq

from helpers import wire
from helpers.master_harness import EXECUTOR, ClusterHarness, FrameworkPeer, Peer, SlavePeer, task
from helpers.recorded_core import RecordedCore
from offerd import messages as m
from offerd import operator_messages as om
from offerd.daemons.recording import Header, Ring, pack, pack_state
from offerd.daemons.recording_reader import Recording, replay
from offerd.ids import ContainerID, FrameworkID
from offerd.messages import Reason, TaskState
from offerd.protocol.files_messages import RefuseOwners
from offerd.wire import codec
from offerd_cli.replaying import is_part
from offerd_master.core.authorization import refusal
from offerd_master.core.enrolment import MAX_OF_A_TOKEN, MAX_WAITING
from offerd_master.core.events import AuthorizedRead, EnrolmentRead, HandshakeRefused
from offerd_master.core.registry import Contents, Enrolled, Registry
from offerd_master.principals import NOBODY, Principal, Principals

OPS = Principal(name="ops", operator=True)
ALICE = Principal(name="alice", roles=("science",), users=("",))
HOST = Principal(name="host", slave=True)
SLAVE = om.Rights(slave=True)


def new_key() -> str:
    return zmq.curve_keypair()[0].decode()


class Keyed(ClusterHarness):
    """A cluster whose master has keys: those of the file at first."""

    def __init__(self, *principals: Principal, **settings: Any) -> None:
        self.file = {new_key(): each for each in (OPS, *principals)}
        self.registry = Registry(self.file)
        super().__init__(registry=self.registry, **settings)
        self.ops = self.operator()
        self.ops.principal = OPS

    def sighup(self, file: Principals) -> None:
        """The daemon has read the file again."""
        self.turn(AuthorizedRead(file))

    def token(self, rights: om.Rights = SLAVE, **more: Any) -> str:
        """Let `ops` make a token; returns its public key."""
        key = new_key()
        self.ops.send(om.NewToken(key, rights, **more))
        self.ops.take(om.Token)
        return key

    def joiner(self, token_key: str) -> Peer:
        """A peer with this token's secret, or with another one in its place."""
        peer = self.operator()
        peer.principal = self.registry.principals.get(token_key, NOBODY)
        return peer

    def join(self, name: str, rights: om.Rights = SLAVE) -> tuple[str, Principal]:
        """Let a peer join; returns its public key and its principal."""
        key, joiner = new_key(), self.joiner(self.token(rights))
        joiner.send(om.Enrol(name, key))
        joiner.take(om.Enrolled)
        return key, self.registry.principals[key]

    def slave_of(self, who: Principal) -> SlavePeer:
        peer = self.slave(registers=False)
        peer.principal = who
        peer.register()
        return peer

    def framework_of(self, who: Principal, **info: Any) -> FrameworkPeer:
        peer = self.framework(registers=False, role="science", **info)
        peer.principal = who
        peer.register()
        return peer


@pytest.fixture
def cluster() -> Keyed:
    return Keyed(ALICE, HOST)


# -- joining ------------------------------------------------------------------------------------------------------------


def test_a_joining_slave_is_sent_its_rights_and_may_then_register(cluster: Keyed) -> None:
    key, joiner = new_key(), cluster.joiner(cluster.token())
    joiner.send(om.Enrol("host7", key))
    assert joiner.take(om.Enrolled) == om.Enrolled("host7", SLAVE)
    slave = cluster.slave_of(cluster.registry.principals[key])
    assert slave.slave_id.endswith("@host7")
    assert any("host7 has joined" in log.text for log in cluster.logs)


def test_nothing_is_answered_or_counts_before_it_is_written_down(cluster: Keyed) -> None:
    cluster.keeps_at_once = False
    key = new_key()
    cluster.ops.send(om.NewToken(key, SLAVE))
    assert cluster.ops.inbox == []
    assert cluster.registry.refusal(key, cluster.now)[0] == "unknown_key"
    cluster.is_kept()
    cluster.ops.take(om.Token)
    assert cluster.registry.refusal(key, cluster.now) == ("", "")


def test_what_cannot_be_written_down_changes_nothing_and_is_reported(cluster: Keyed) -> None:
    token = cluster.token()
    cluster.keep_fault = "No space left on device"
    joiner, key = cluster.joiner(token), new_key()
    joiner.send(om.Enrol("host7", key))
    assert "No space left" in joiner.take(om.NotAuthorized).message
    cluster.ops.send(om.RevokeToken(cluster.registry.principals[token].token))
    assert "No space left" in cluster.ops.take(om.Done).message
    assert key not in cluster.registry.principals
    cluster.keep_fault = ""
    joiner.send(om.Enrol("host7", key))
    joiner.take(om.Enrolled)


def test_two_that_come_at_once_with_a_token_of_one_use_do_not_both_join(cluster: Keyed) -> None:
    token = cluster.token()
    first, second = cluster.joiner(token), cluster.joiner(token)
    cluster.keeps_at_once = False
    first.send(om.Enrol("host1", new_key()))
    second.send(om.Enrol("host2", new_key()))
    assert (first.inbox, second.inbox, len(cluster.kept)) == ([], [], 2)  # the token, and the first
    cluster.is_kept()
    first.take(om.Enrolled)
    assert "has been used" in second.take(om.NotAuthorized).message
    assert cluster.core.cluster.refused == 1


def test_a_bounded_number_may_wait_and_the_next_must_try_again(cluster: Keyed) -> None:
    cluster.keeps_at_once = False
    for _ in range(MAX_WAITING + 1):
        cluster.ops.send(om.NewToken(new_key(), SLAVE))
    assert cluster.ops.inbox == []
    cluster.ops.send(om.NewToken(new_key(), SLAVE))
    assert "try again" in cluster.ops.take(om.NotAuthorized).message


def test_joining_peers_leave_room_for_operators_orders(cluster: Keyed) -> None:
    token = cluster.token(uses=1000)
    cluster.keeps_at_once = False
    noisy = cluster.joiner(token)
    for number in range(10):
        noisy.send(om.Enrol(f"n{number}", new_key()))
    assert [type(answer) for answer in noisy.inbox] == [om.NotAuthorized] * 8
    for number in range(MAX_WAITING + 10):
        cluster.joiner(token).send(om.Enrol(f"m{number}", new_key()))
    assert len(cluster.core.cluster.orders) == MAX_OF_A_TOKEN
    cluster.ops.send(om.GetTokens())
    cluster.ops.take(om.Tokens)
    cluster.ops.send(om.RevokeToken(cluster.registry.principals[token].token))
    assert cluster.ops.inbox == []
    for _ in range(MAX_OF_A_TOKEN + 2):
        cluster.is_kept()
    assert cluster.ops.take(om.Done) == om.Done(True)


def test_all_waiting_orders_are_served_when_the_disk_is_back(cluster: Keyed) -> None:
    cluster.keeps_at_once = False
    for _ in range(3):
        cluster.ops.send(om.NewToken(new_key(), SLAVE))
    cluster.is_kept("No space left on device")
    cluster.is_kept()
    cluster.is_kept()
    assert [type(answer) for answer in cluster.ops.inbox] == [om.NotAuthorized, om.Token, om.Token]


@pytest.mark.parametrize("kind", codec.to_master.types)
def test_a_token_is_good_only_for_joining_and_joining_needs_one(
    cluster: Keyed, kind: type[m.Message]
) -> None:
    token = cluster.token(om.Rights(True, True, ["science"], [""]))
    who = cluster.registry.principals[token]
    message = wire.sample(kind)
    assert (refusal(who, None, message) == "") is (kind is om.Enrol)
    if kind is om.Enrol:
        for other in (OPS, ALICE, HOST, NOBODY):
            assert "needs a token" in refusal(other, None, message)


@pytest.mark.parametrize("name", ["host", "ops", "no name"])
def test_an_invalid_name_is_refused_and_counted_and_costs_no_use(cluster: Keyed, name: str) -> None:
    joiner = cluster.joiner(cluster.token())
    joiner.send(om.Enrol(name, new_key()))
    assert name in joiner.take(om.NotAuthorized).message
    assert cluster.core.cluster.refused == 1
    joiner.send(om.Enrol("host7", new_key()))
    joiner.take(om.Enrolled)


def test_a_token_that_expires_during_a_connection_is_refused(cluster: Keyed) -> None:
    joiner = cluster.joiner(cluster.token(ttl_s=60.0))
    cluster.advance(61.0)
    joiner.send(om.Enrol("host7", new_key()))
    assert "too old" in joiner.take(om.NotAuthorized).message
    assert (cluster.core.cluster.refused, cluster.registry.refused["late"]) == (1, 1)


def test_a_token_that_is_used_up_has_its_connections_ended(cluster: Keyed) -> None:
    token = cluster.token()
    cluster.joiner(token).send(om.Enrol("host7", new_key()))
    assert cluster.cut_off == {token}


@pytest.mark.parametrize("rights", [om.Rights(roles=["science"]), om.Rights(users=["alice"]), om.Rights()])
def test_rights_that_the_file_could_not_name_are_not_granted(cluster: Keyed, rights: om.Rights) -> None:
    cluster.ops.send(om.NewToken(new_key(), rights))
    cluster.ops.take(om.NotAuthorized)
    assert cluster.kept == []


def test_operators_list_tokens_and_keys_and_see_what_was_refused(cluster: Keyed) -> None:
    token = cluster.token(uses=3, ttl_s=60.0)
    cluster.join("host7")
    cluster.turn(HandshakeRefused("a peer at 10.0.0.1: nobody here has its key", "unknown_key"))
    cluster.advance(10.0)
    cluster.ops.send(om.GetTokens())
    tokens = cluster.ops.take(om.Tokens)
    (listed,) = tokens.tokens
    assert (listed.token_id, listed.uses_left, listed.left_s, listed.by, listed.rights) == (
        cluster.registry.principals[token].token, 3, 50.0, "ops", SLAVE,
    )  # fmt: skip
    assert tokens.refused == {"unknown_key": 1}
    cluster.ops.send(om.GetKeys(limit=2))
    page = cluster.ops.take(om.Keys)
    assert ([key.name for key in page.keys], page.more) == (["alice", "host"], True)
    cluster.ops.send(om.GetKeys(after="host"))
    listed_keys = cluster.ops.take(om.Keys).keys
    assert [(key.name, key.is_enrolled, key.by) for key in listed_keys] == [
        ("host7", True, "ops"),
        ("ops", False, ""),
    ]


def test_a_master_without_keys_answers_that_it_has_none() -> None:
    cluster = ClusterHarness()
    for message in (
        om.NewToken(new_key(), SLAVE),
        om.GetTokens(),
        om.GetKeys(),
        om.RevokeKey("x"),
        om.RevokeToken("x"),
    ):
        operator = cluster.operator()
        operator.send(message)
        assert "has no keys" in operator.take(om.NotAuthorized).message


# -- revoking -----------------------------------------------------------------------------------------------------------


def revoke(cluster: Keyed, name: str) -> None:
    cluster.ops.send(om.RevokeKey(name))
    assert cluster.ops.take(om.Done) == om.Done(True)


def test_a_key_of_the_file_is_not_revoked_over_the_wire(cluster: Keyed) -> None:
    cluster.ops.send(om.RevokeKey("alice"))
    done = cluster.ops.take(om.Done)
    assert (done.ok, "SIGHUP" in done.message) == (False, True)


def test_a_revoked_slave_is_removed_its_tasks_are_lost_and_it_gets_orders_to_end_them(cluster: Keyed) -> None:
    key, who = cluster.join("host7")
    slave = cluster.slave_of(who)
    alice = cluster.framework_of(ALICE, unreachable_timeout_s=600.0)
    alice.accept(alice.offer(), tasks=[task("t")])
    slave.inbox.clear()
    revoke(cluster, "host7")
    assert slave.take(m.ShutdownFramework).framework_id == alice.framework_id
    refused = slave.take(m.SlaveRefused)
    assert (refused.reason, "host7" not in cluster.registry.by_name) == (Reason.KEY_REVOKED, True)
    status = next(each for each in alice.inbox if isinstance(each, m.StatusUpdate)).status
    # Also for a framework that would wait for a slave that is only disconnected.
    assert (status.state, status.reason) == (TaskState.LOST, Reason.SLAVE_LOST)
    assert not cluster.core.cluster.slaves
    assert not cluster.core.cluster.lost_slaves
    assert cluster.cut_off >= {key}


def test_frameworks_of_a_revoked_key_end_at_once_with_those_that_stand_by(cluster: Keyed) -> None:
    slave = cluster.slave_of(HOST)
    key, who = cluster.join("bob", om.Rights(roles=["science"], users=[""]))
    bob = cluster.framework_of(who, failover_timeout_s=1e6)
    bob.accept(bob.offer(), tasks=[task("t")])
    waiting = cluster.again(bob)
    waiting.info = m.FrameworkInfo(
        "framework", bob.framework_id, role="science", executors=bob.info.executors
    )
    waiting.principal = who
    waiting.send(m.RegisterFramework(waiting.info, stands_by=True))
    waiting.take(m.FrameworkStandsBy)
    bob.inbox.clear()
    slave.inbox.clear()
    revoke(cluster, "bob")
    assert bob.take(m.FrameworkRefused).reason == Reason.NOT_AUTHORIZED
    waiting.take(m.FrameworkRefused)
    assert list(slave.take(RefuseOwners).numbers) == ["bob"]
    assert slave.take(m.ShutdownFramework).framework_id == bob.framework_id
    assert cluster.core.cluster.frameworks[bob.framework_id].ended
    assert cluster.cut_off >= {key}


def test_sighup_that_takes_a_key_away_does_the_same_as_revoking_it(cluster: Keyed) -> None:
    slave = cluster.slave_of(HOST)
    alice = cluster.framework_of(ALICE)
    alice.accept(alice.offer(), tasks=[task("t")])
    alice.inbox.clear()
    slave.inbox.clear()
    cluster.sighup({key: who for key, who in cluster.file.items() if who is not ALICE})
    assert alice.take(m.FrameworkRefused).reason == Reason.NOT_AUTHORIZED
    # Alice's access to the slave's files is revoked, too.
    assert list(slave.take(RefuseOwners).numbers) == ["alice"]
    assert slave.take(m.ShutdownFramework).framework_id == alice.framework_id
    slave.inbox.clear()
    cluster.sighup({key: who for key, who in cluster.file.items() if who is OPS})
    refused = next(each for each in slave.inbox if isinstance(each, m.SlaveRefused))
    assert refused.reason == Reason.KEY_REVOKED


@pytest.mark.parametrize(
    "less",
    [
        Principal(name="alice", roles=("arts",), users=("",)),
        Principal(name="alice", roles=("science",), users=("guest",)),
    ],
)
def test_sighup_that_takes_a_role_or_user_away_ends_the_frameworks_that_have_it(
    cluster: Keyed, less: Principal
) -> None:
    alice = cluster.framework_of(ALICE)
    changed = {key: less if who is ALICE else who for key, who in cluster.file.items()}
    cluster.sighup(changed)
    assert alice.take(m.FrameworkRefused).reason == Reason.NOT_AUTHORIZED


def test_sighup_without_a_change_ends_nothing(cluster: Keyed) -> None:
    slave, alice = cluster.slave_of(HOST), cluster.framework_of(ALICE)
    alice.accept(alice.offer(), tasks=[task("t")])
    alice.inbox.clear()
    slave.inbox.clear()
    cluster.sighup(dict(cluster.file))
    cluster.assert_nothing_else_sent()


def test_a_key_that_another_master_has_revoked_ends_here_too(cluster: Keyed) -> None:
    _, who = cluster.join("host7")
    slave = cluster.slave_of(who)
    cluster.turn(EnrolmentRead(Contents()))
    assert slave.take(m.SlaveRefused).reason == Reason.KEY_REVOKED


def test_a_recording_replays_enrolments_and_revocations_of_every_kind(cluster: Keyed) -> None:
    ring = Ring(1000, 1 << 20)
    state = list(pack_state(cluster.core))
    watched: Any = RecordedCore(cluster.core, ring)
    cluster.core = watched
    slave = cluster.slave_of(cluster.join("host7")[1])
    cluster.ops.send(om.RevokeKey("host7"))
    assert slave.take(m.SlaveRefused).reason == Reason.KEY_REVOKED
    others_key = new_key()
    others = {"host8": Enrolled(others_key, Principal(name="host8", slave=True))}
    cluster.turn(EnrolmentRead(Contents(others)))
    slave = cluster.slave_of(cluster.registry.principals[others_key])
    slave.take(RefuseOwners)
    cluster.turn(EnrolmentRead(Contents()))
    assert slave.take(m.SlaveRefused).reason == Reason.KEY_REVOKED
    cluster.turn(HandshakeRefused("a peer", cluster.registry.refusal(others_key, cluster.now)[0]))
    cluster.sighup({key: who for key, who in cluster.file.items() if who is not HOST})
    cluster.ops.send(om.GetKeys())
    cluster.ops.send(om.GetTokens())

    header = Header("master", "1.2", "a test", 1.5, cluster.now, 0, is_whole=True)
    recording = Recording(io.BytesIO(b"".join(pack(header, state, ring.since(0)))), is_part)
    again = [repr(actions) for _, actions in replay(recording.core, recording.steps())]
    assert again == watched.answers
    listed, tokens = again[-4], again[-2]
    assert ("name='ops'" in listed, "name='alice'" in listed, "host" in listed) == (True, True, False)
    assert "{'revoked': 1}" in tokens


def test_a_framework_that_a_new_master_meets_and_would_refuse_is_not_waited_for(cluster: Keyed) -> None:
    slave = cluster.slave(registers=False)
    slave.principal = HOST
    gone = m.FrameworkInfo("gone", FrameworkID("F-1-0001@mallory"), role="science", failover_timeout_s=1e6)
    mine = m.FrameworkInfo("mine", FrameworkID("F-1-0002@alice"), role="science", failover_timeout_s=1e6)
    running = [
        m.RunningExecutor(info, EXECUTOR.executor_id, ContainerID(f"c{number}"))
        for number, info in enumerate((gone, mine))
    ]
    slave.send(m.RegisterSlave(slave.info, running))
    slave.take(m.SlaveRegistered)
    cluster.advance(0.1)
    assert slave.take(m.ShutdownFramework).framework_id == gone.framework_id
    cluster.assert_nothing_else_sent()
