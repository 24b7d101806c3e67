"""What each principal may be and ask where peers have keys, and what happens to those that may not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer
from offerd import messages as m
from offerd import operator_messages as om
from offerd.errors import BadInput
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID, TaskID, is_valid_id, owner_of
from offerd.messages import Reason
from offerd.resources import Resources
from offerd_master.core.authorization import FOR_JOINING, OPEN_TO_FRAMEWORKS, OPERATORS_ONLY
from offerd_master.core.events import HandshakeRefused
from offerd_master.core.master import FROM_SCHEDULER, FROM_SLAVE, QUESTIONS, REGISTRATIONS
from offerd_master.gate import read_principals
from offerd_master.principals import NOBODY, Principal, parse_principals

HOST = Principal(name="host", slave=True)
RACK = Principal(name="rack", slave=True)
ALICE = Principal(name="alice", roles=("science",), users=("alice", "guest"))
BOB = Principal(name="bob", roles=("*", "science"), users=("",))
OPS = Principal(name="ops", operator=True)
PORTAL = Principal(name="portal", every_role=True, every_user=True)
LOCAL = Principal(name="local", every_role=True, every_user=True, users=("root",))
KEY = "x" * 40


def slave_of(cluster: ClusterHarness, who: Principal) -> SlavePeer:
    peer = cluster.slave(registers=False)
    peer.principal = who
    return peer


def framework_of(cluster: ClusterHarness, who: Principal, **info: Any) -> FrameworkPeer:
    peer = cluster.framework(registers=False, **info)
    peer.principal = who
    return peer


def audit(cluster: ClusterHarness) -> str:
    """The last warning in the log."""
    assert cluster.logs[-1].level == "warning"
    return cluster.logs[-1].text


# -- registrations ------------------------------------------------------------------------------------------------------


def test_ids_given_under_keys_show_their_owner_and_others_do_not() -> None:
    cluster = ClusterHarness()
    slave, alice = slave_of(cluster, HOST), framework_of(cluster, ALICE, role="science")
    slave.register()
    alice.register()
    assert (owner_of(slave.slave_id), owner_of(alice.framework_id)) == ("host", "alice")
    assert is_valid_id(slave.slave_id)
    assert is_valid_id(alice.framework_id)
    assert owner_of(ClusterHarness().slave().slave_id) == ""
    assert cluster.core.cluster.is_own_id(alice.framework_id)


def test_the_longest_name_still_makes_an_id() -> None:
    cluster = ClusterHarness()
    slave = slave_of(cluster, Principal(name="n" * 40, slave=True))
    slave.register()
    assert is_valid_id(slave.slave_id)


@pytest.mark.parametrize("who", [ALICE, OPS, NOBODY])
def test_a_principal_that_may_not_be_a_slave_is_refused_logged_and_counted(who: Principal) -> None:
    cluster = ClusterHarness()
    slave = slave_of(cluster, who)
    slave.send(m.RegisterSlave(slave.info))
    assert slave.take(m.SlaveRefused).reason == Reason.NOT_AUTHORIZED
    assert who.name in audit(cluster)
    assert (cluster.core.cluster.refused, cluster.core.cluster.slaves) == (1, {})


@pytest.mark.parametrize(
    "slave_id", ["S-a-0001@rack", "S-a-0001", "S-a-0001@host@rack", "S-a-0001@hos", "@", "host"]
)
def test_a_foreign_slave_id_is_refused_also_by_a_master_that_never_heard_of_it(slave_id: str) -> None:
    cluster = ClusterHarness()
    slave = slave_of(cluster, HOST)
    slave.info = m.SlaveInfo("h", Resources.parse("cpus=1"), SlaveID(slave_id))
    slave.send(m.RegisterSlave(slave.info))
    assert slave_id in slave.take(m.SlaveRefused).message
    assert slave_id in audit(cluster)
    assert not cluster.core.cluster.slaves


def test_a_slave_id_stays_its_owners_at_another_master() -> None:
    cluster = ClusterHarness()
    slave = slave_of(cluster, HOST)
    slave.info = m.SlaveInfo("h", Resources.parse("cpus=1"), SlaveID("S-7-0001@host"))
    slave.register()
    assert slave.slave_id == "S-7-0001@host"


@pytest.mark.parametrize(
    ("who", "role", "user", "word"),
    [
        (ALICE, "*", "", "role"),
        (ALICE, "scienc", "", "role"),
        (ALICE, "sciences", "", "role"),
        (ALICE, "prod/science", "", "role"),
        (ALICE, "science", "root", "user"),
        (BOB, "science", "alice", "user"),
        (HOST, "*", "", "role"),
        (OPS, "*", "", "role"),
        (NOBODY, "*", "", "role"),
        (PORTAL, "science", "root", "user root"),
        (PORTAL, "science", "", "user"),
    ],
)
def test_a_framework_of_a_foreign_role_or_user_is_refused_and_offered_nothing(
    who: Principal, role: str, user: str, word: str
) -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = framework_of(cluster, who, role=role, user=user)
    framework.send(m.RegisterFramework(framework.info))
    refused = framework.take(m.FrameworkRefused)
    assert refused.reason == Reason.NOT_AUTHORIZED
    assert word in refused.message
    assert word in audit(cluster)
    cluster.advance(60.0)
    assert framework.inbox == []
    assert cluster.core.cluster.refused == 1


@pytest.mark.parametrize(
    ("who", "role", "user", "runs_as"),
    [
        (ALICE, "science", "alice", "alice"),
        (ALICE, "science", "guest", "guest"),
        (ALICE, "science/physics", "", "alice"),
        (BOB, "*", "", ""),
        (PORTAL, "science/physics", "alice", "alice"),
        (LOCAL, "*", "", "root"),
        (LOCAL, "*", "nobody", "nobody"),
    ],
)
def test_a_framework_of_an_allowed_role_and_user_is_offered_what_is_free(
    who: Principal, role: str, user: str, runs_as: str
) -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = framework_of(cluster, who, role=role, user=user)
    framework.register()
    framework.offer()
    (known,) = cluster.core.cluster.frameworks.values()
    assert known.launch_info.user == runs_as


@pytest.mark.parametrize(
    ("users", "user", "account", "runs_as"),
    [
        (("alice", "guest"), "", "guest", "guest"),
        (("alice", "guest"), "", "root", "alice"),
        (("alice", "guest"), "alice", "guest", "alice"),
        (("", "alice"), "", "root", ""),
        (("", "alice"), "", "alice", "alice"),
        (("alice",), "", "", "alice"),
        (("alice", "root"), "", "root", "root"),
    ],
)
def test_a_framework_runs_as_the_user_it_names_or_as_its_submitter_or_as_its_keys_first_user(
    users: tuple[str, ...], user: str, account: str, runs_as: str
) -> None:
    cluster = ClusterHarness()
    who = Principal(name="alice", roles=("*",), users=users)
    framework_of(cluster, who, user=user, account=account).register()
    (known,) = cluster.core.cluster.frameworks.values()
    assert known.launch_info.user == runs_as


@pytest.mark.parametrize("framework_id", ["F-7-0001@bob", "F-7-0001", "F-7-0001@alic"])
@pytest.mark.parametrize("stands_by", [False, True])
def test_a_foreign_framework_id_is_refused_active_or_standing_by(framework_id: str, stands_by: bool) -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = framework_of(cluster, ALICE, role="science", framework_id=FrameworkID(framework_id))
    framework.send(m.RegisterFramework(framework.info, stands_by=stands_by))
    assert framework_id in framework.take(m.FrameworkRefused).message
    assert framework_id in audit(cluster)
    assert not cluster.core.cluster.frameworks


def test_a_taken_over_framework_stays_with_its_owner() -> None:
    cluster = ClusterHarness()
    mine = framework_of(cluster, ALICE, role="science")
    mine.register()
    thief = cluster.again(mine)
    thief.principal = BOB
    thief.send(m.RegisterFramework(thief.info))
    thief.take(m.FrameworkRefused)
    assert mine.inbox == []
    assert cluster.core.cluster.frameworks[mine.framework_id].peer == mine.peer


# -- what comes over a connection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [m.Pong(), m.UnregisterSlave(), m.SlaveUsage(1, 1)])
def test_a_peer_that_takes_over_a_slaves_routing_id_may_not_speak_for_it(message: m.Message) -> None:
    cluster = ClusterHarness()
    slave = slave_of(cluster, HOST)
    slave.register()
    slave.principal = RACK
    slave.send(message)
    assert "not given to rack" in slave.take(m.SlaveRefused).message
    assert cluster.core.cluster.slaves[slave.slave_id].peer is None
    assert "rack" in audit(cluster)


def test_a_registration_without_an_id_does_not_take_that_of_the_connection() -> None:
    cluster = ClusterHarness()
    slave = slave_of(cluster, HOST)
    slave.register()
    slave.principal = RACK
    slave.send(m.RegisterSlave(m.SlaveInfo("rack", Resources.parse("cpus=1"))))
    slave.take(m.SlaveRefused)
    assert [known.info.hostname for known in cluster.core.cluster.slaves.values()] == [slave.info.hostname]


def test_rights_that_are_taken_away_end_a_framework_at_its_next_message() -> None:
    cluster = ClusterHarness()
    cluster.slave()
    framework = framework_of(cluster, ALICE, role="science")
    framework.register()
    offer = framework.offer()
    framework.principal = NOBODY
    framework.accept(offer, tasks=[m.TaskInfo(TaskID("t"), Resources.parse("cpus=1"), ExecutorID("default"))])
    assert framework.take(m.FrameworkRefused).reason == Reason.NOT_AUTHORIZED
    cluster.advance(60.0)
    assert framework.inbox == []
    assert not cluster.core.cluster.offers


# -- questions ----------------------------------------------------------------------------------------------------------

MINE, THEIRS = FrameworkID("F-a-0001@alice"), FrameworkID("F-a-0002@bob")


@pytest.mark.parametrize(
    ("question", "allowed"),
    [
        (om.GetCluster(), {"ops", "alice", "bob"}),
        (om.GetSlaves(), {"ops", "alice", "bob", "host"}),
        (om.GetFrameworks(), {"ops", "alice", "bob"}),
        (om.GetTasks(), {"ops", "alice", "bob"}),
        (om.GetTasks(framework_id=MINE), {"ops", "alice"}),
        (om.GetTasks(framework_id=THEIRS), {"ops", "bob"}),
        (om.KillAnyTask(TaskID("t")), {"ops", "alice", "bob"}),
        (om.EndFramework("f"), {"ops", "alice", "bob"}),
        (om.KillAnyTask(TaskID("t"), MINE), {"ops", "alice"}),
        (om.ChangeSlaveMode("host", "draining"), {"ops"}),
        (om.ExplainWaiting(MINE, Resources()), {"ops", "alice"}),
        (om.ExplainWaiting(THEIRS, Resources()), {"ops", "bob"}),
        (om.ExplainFramework(MINE), {"ops", "alice", "bob"}),
    ],
)
def test_each_question_is_answered_only_to_those_who_may_ask_it(
    question: m.Message, allowed: set[str]
) -> None:
    for who in (OPS, ALICE, BOB, HOST, NOBODY):
        cluster = ClusterHarness()
        peer = cluster.operator()
        peer.principal = who
        peer.send(question)
        (answer,) = peer.inbox
        assert isinstance(answer, om.NotAuthorized) is (who.name not in allowed), (who, answer)
        if isinstance(answer, om.NotAuthorized):
            assert who.name in answer.message
            assert not re.search("[a-z][A-Z]|[A-Z]_", answer.message), "in words, without names of ours"
        assert cluster.core.cluster.refused == (who.name not in allowed)
        assert bool([log for log in cluster.logs if "refused" in log.text]) is (who.name not in allowed)


def test_every_message_that_a_stranger_may_send_is_judged() -> None:
    judged = {*REGISTRATIONS, *OPEN_TO_FRAMEWORKS, *OPERATORS_ONLY, *FOR_JOINING}
    assert judged == {*REGISTRATIONS, *QUESTIONS}
    assert not judged & {*FROM_SCHEDULER, *FROM_SLAVE}


def test_a_known_key_that_has_not_registered_is_still_answered_so() -> None:
    cluster = ClusterHarness()
    peer = framework_of(cluster, ALICE)
    peer.send(m.AcceptOffers([OfferID("O-1")], []))
    peer.take(m.NotRegistered)


def test_refused_handshakes_are_counted_and_each_stranger_is_logged_once() -> None:
    cluster = ClusterHarness()
    cluster.turn(HandshakeRefused("a peer at 10.0.0.1"), HandshakeRefused(""), HandshakeRefused(""))
    assert cluster.core.cluster.refused == 3
    assert [log.text for log in cluster.logs] == ["refused a peer at 10.0.0.1"]


# -- the file -----------------------------------------------------------------------------------------------------------


def test_the_file_defines_the_rights_of_each() -> None:
    text = f"""
        [host7]
        key = "{KEY}"
        slave = true
        [alice]
        key = "{"y" * 40}"
        operator = true
        roles = ["science", "*"]
        users = ["alice", ""]
        [portal]
        key = "{"z" * 40}"
        every_role = true
        every_user = true
    """
    assert parse_principals(tomllib.loads(text)) == {
        KEY: Principal(name="host7", slave=True),
        "y" * 40: Principal(name="alice", operator=True, roles=("science", "*"), users=("alice", "")),
        "z" * 40: PORTAL,
    }


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = 5", "table"),
        ("[a]", "key"),
        ('[a]\nkey = "short"', "40 characters"),
        ("[a]\nkey = 5", "text"),
        (f'[a]\nkey = "{KEY}"\nslave = 1', "true or false"),
        (f'[a]\nkey = "{KEY}"\nroles = "x"', "list"),
        (f'[a]\nkey = "{KEY}"\nroles = [5]', "list"),
        (f'[a]\nkey = "{KEY}"\nroles = ["a//b"]\nusers = ["u"]', "path of names"),
        (f'[a]\nkey = "{KEY}"\nroles = ["a"]', "both roles and users"),
        (f'[a]\nkey = "{KEY}"\nusers = ["a"]', "both roles and users"),
        (f'[a]\nkey = "{KEY}"\nevery_user = true', "both roles and users"),
        (f'[a]\nkey = "{KEY}"\nevery_role = "yes"', "true or false"),
        (f'[a]\nkey = "{KEY}"\nslvae = true', "slvae"),
        (f'["a@b"]\nkey = "{KEY}"', "is not a valid name"),
        (f'[a]\nkey = "{KEY}"\n[b]\nkey = "{KEY}"', "same key"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, word: str) -> None:
    with pytest.raises(BadInput, match=word) as caught:
        parse_principals(tomllib.loads(text))
    assert "\n" not in str(caught.value)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "authorized.toml"
    file.write_text(f'[ops]\nkey = "{KEY}"\noperator = true\n')
    assert list(read_principals(file)) == [KEY]
    file.chmod(0o666)
    with pytest.raises(
        BadInput, match=f"--authorized {file}: others may write the file .*mode 0666.*chmod go-w"
    ):
        read_principals(file)
    file.chmod(0o644)
    tmp_path.chmod(0o775)
    with pytest.raises(BadInput, match=f"--authorized {file}: others may write the directory of the file"):
        read_principals(file)


def test_a_slave_sees_itself_in_the_list_of_slaves_and_nobody_else() -> None:
    cluster = ClusterHarness()
    for who in (HOST, RACK):
        slave_of(cluster, who).register()
    peer = cluster.operator()
    peer.principal = HOST
    peer.send(om.GetSlaves())
    assert [owner_of(slave.info.slave_id) for slave in peer.take(om.Slaves).slaves] == ["host"]
