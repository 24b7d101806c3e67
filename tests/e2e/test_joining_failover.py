"""Tokens and enrolled keys in ZooKeeper: known to all masters, valid after a fail-over, accepted only from masters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from helpers.cli import wait_until
from helpers.ensemble import Ensemble, needs_zookeeper
from helpers.keyring import Keyring
from offerd import operator_messages as om
from offerd.credentials.keys import Keys, public_of
from offerd.errors import KeyRefused, OfferdError
from offerd.masters.clusters import Connection
from offerd.masters.leader import ZooKeeperAddress, master_address
from offerd.masters.zookeeper_access import Access, derived_access, new_client
from offerd.operator import OperatorClient
from offerd_cli.enrolment_client import enrol, is_known
from offerd_cli.local_cluster import Daemon, LocalCluster
from offerd_master.core.events import ChangeKept, EnrolmentRead
from offerd_master.core.registry import Change, Contents, Enrolled, Token
from offerd_master.principals import Principal
from offerd_master.zookeeper_keys import ZooKeeperKeys

pytestmark = needs_zookeeper

SESSION_S = 2.0
PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())
ACCESS = derived_access(SECRET)


def enrolled(name: str) -> Enrolled:
    return Enrolled(zmq.curve_keypair()[0].decode(), Principal(name=name, slave=True), "ops")


# -- the nodes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    with Ensemble(tmp_path_factory.mktemp("zookeeper")) as ensemble:
        yield ensemble


@pytest.fixture
def address(ensemble: Ensemble, request: pytest.FixtureRequest) -> ZooKeeperAddress:
    """A path of the test's own, as the masters' election leaves it: in epoch 5."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    found = ensemble.address._replace(path=f"/{name}")
    client = new_client(found, access=ACCESS)
    client.start()
    client.ensure_path(found.path, acl=ACCESS.acl(world_may_read=True))
    client.create(f"{found.path}/epoch", b"5")
    client.stop()
    client.close()
    return found


@pytest.fixture
def opened(address: ZooKeeperAddress) -> Iterator[Callable[..., Kept]]:
    made: list[Kept] = []

    def open_one(secret: str = SECRET, access: Access = ACCESS) -> Kept:
        made.append(Kept(address, secret, access))
        return made[-1]

    yield open_one
    for each in made:
        each.keys.close()


@pytest.fixture
def masters_client(address: ZooKeeperAddress) -> Iterator[KazooClient]:
    """A client with the masters' password, which ZooKeeper sees, but without their key."""
    client = new_client(address, access=ACCESS)
    client.start()
    yield client
    client.stop()
    client.close()


class Kept:
    """One master's view of what is kept."""

    def __init__(self, address: ZooKeeperAddress, secret: str, access: Access) -> None:
        self.contents = Contents()
        self.reads = 0
        self.keys = ZooKeeperKeys(address, secret, access, SESSION_S, lambda: None)

    def look(self) -> list[ChangeKept]:
        kept = []
        for news in self.keys.news():
            if isinstance(news, EnrolmentRead):
                self.contents = news.contents
                self.reads += 1
            else:
                kept.append(news)
        return kept

    def keep(self, change: Change, epoch: int = 5) -> str:
        """What came of it."""
        self.keys.keep(change, epoch)
        done: list[ChangeKept] = []
        wait_until(lambda: done.extend(self.look()) or done, "the change to be written down")  # type: ignore[func-returns-value]
        return done[0].fault

    def wait_for(self, *names: str) -> None:
        def is_known() -> bool:
            self.look()
            return set(self.contents.keys) == set(names)

        wait_until(is_known, f"{names} to be known")


def refusals(caplog: pytest.LogCaptureFixture) -> int:
    """How many masters have logged that they refuse the entries; each does so once."""
    return sum("were not written by a master" in record.getMessage() for record in caplog.records)


def test_all_masters_know_what_the_leader_has_written(
    opened: Callable[..., Kept],
) -> None:
    leader, standby = opened(), opened()
    wait_until(lambda: standby.keys.is_read, "nothing to be found")
    host7 = enrolled("host7")
    token = Token(
        "abc", enrolled("x").key, Principal(name="", slave=True), 2, time.monotonic() + 60, 60.0, "ops"
    )
    assert leader.keep(Change({"host7": host7}, {"abc": token})) == ""
    standby.wait_for("host7")
    assert standby.contents.keys == {"host7": host7}
    found = standby.contents.tokens["abc"]
    assert (found.key, found.uses_left) == (token.key, 2)
    assert found.until == pytest.approx(token.until, abs=0.5)
    assert leader.keep(Change({"host7": None, "host8": enrolled("host8")}, {"abc": None})) == ""
    standby.wait_for("host8")
    late = opened()
    wait_until(late.keys.read_before_leading, "one that starts later to be up to date")
    late.look()
    assert (set(late.contents.keys), late.contents.tokens) == ({"host8"}, {})


def test_a_master_that_does_not_lead_any_more_writes_nothing(opened: Callable[..., Kept]) -> None:
    deposed, other = opened(), opened()
    assert "no longer leads" in deposed.keep(Change({"host7": enrolled("host7")}), epoch=4)
    assert other.keep(Change({"host8": enrolled("host8")})) == ""
    other.wait_for("host8")


def test_two_masters_that_write_at_once_lose_nothing(opened: Callable[..., Kept]) -> None:
    one, two = opened(), opened()
    kept: list[ChangeKept] = []
    for number in range(5):
        name_one, name_two = f"one{number}", f"two{number}"
        one.keys.keep(Change({name_one: enrolled(name_one)}), 5)
        assert two.keep(Change({name_two: enrolled(name_two)})) == ""
    wait_until(lambda: kept.extend(one.look()) or len(kept) == 5, "the other's to be written, too")  # type: ignore[func-returns-value]
    assert {each.fault for each in kept} == {""}
    everything = {f"{who}{number}" for who in ("one", "two") for number in range(5)}
    one.wait_for(*everything)
    two.wait_for(*everything)


def test_without_the_masters_credentials_entries_can_be_neither_read_nor_written(
    opened: Callable[..., Kept], address: ZooKeeperAddress
) -> None:
    leader = opened()
    leader.keep(Change({"host7": enrolled("host7")}))
    stranger = new_client(address)
    stranger.start()
    try:
        asked: list[tuple[Callable[..., Any], str, tuple[bytes, ...]]] = [
            (stranger.get, "keys/host7", ()),
            (stranger.get_children, "keys", ()),
            (stranger.create, "keys/mallory", (b"{}",)),
            (stranger.set, "keys", (b"",)),
            (stranger.delete, "keys/host7", ()),
        ]
        for ask, node, data in asked:
            with pytest.raises(NoAuthError):
                ask(f"{address.path}/{node}", *data)
    finally:
        stranger.stop()
        stranger.close()


@pytest.mark.parametrize("what", ["another key", "an altered table", "a key less", "garbage", "an old state"])
def test_entries_that_no_master_has_written_are_refused_and_known_ones_stay(
    opened: Callable[..., Kept],
    address: ZooKeeperAddress,
    masters_client: KazooClient,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    leader, standby = opened(), opened()
    leader.keep(Change({"host7": enrolled("host7"), "host8": enrolled("host8")}))
    path = f"{address.path}/keys"
    old, _ = masters_client.get(path)
    old_table, _ = masters_client.get(f"{path}/host8")
    leader.keep(Change({"host8": None}))
    standby.wait_for("host7")
    table, _ = masters_client.get(f"{path}/host7")
    head, _ = masters_client.get(path)
    if what == "another key":
        masters_client.create(f"{path}/mallory", table)
        head = b"9" + head
    elif what == "an altered table":
        masters_client.set(f"{path}/host7", table.replace(b'"slave"', b'"operator"'))
    elif what == "a key less":
        masters_client.delete(f"{path}/host7")
    elif what == "an old state":
        masters_client.create(f"{path}/host8", old_table)
        head = old
    masters_client.set(path, b"\xff garbage" if what == "garbage" else head)
    wait_until(lambda: refusals(caplog) == 2, "both to have refused it")
    for each in (leader, standby):
        each.look()
        assert set(each.contents.keys) == {"host7"}
        assert not each.contents.keys["host7"].principal.operator
    # A master that knows nothing yet accepts no key.
    if what != "an old state":
        late = opened()
        wait_until(lambda: refusals(caplog) == 3, "the late one to have refused it")
        late.look()
        assert (late.reads, late.keys.is_read) == (0, False)


def test_masters_with_another_key_refuse_all_entries(
    opened: Callable[..., Kept], caplog: pytest.LogCaptureFixture
) -> None:
    opened().keep(Change({"host7": enrolled("host7")}))
    other = opened(secret=zmq.curve_keypair()[1].decode())
    wait_until(lambda: refusals(caplog) == 1, "the other to have refused it")
    other.look()
    assert (other.reads, other.keys.is_read) == (0, False)


# -- two masters ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyring(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """The tests use the key of `ops`."""
    made = Keyring(tmp_path_factory.mktemp("keys"))
    for name, value in made.environment("ops").items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def cluster(keyring: Keyring) -> Iterator[LocalCluster]:
    with LocalCluster(
        slaves=0,
        masters=2,
        zk="auto",
        master_options=(*keyring.master_words(), "--zk-session-timeout", "2s"),
    ) as running:
        yield running


def new_word(cluster: LocalCluster, keyring: Keyring, **more: Any) -> Keys:
    token = Keys(zmq.curve_keypair()[1].decode(), keyring.public("master"))
    with OperatorClient(cluster.address, timeout_s=30) as ops:
        ops.new_token(public_of(token.secret), om.Rights(operator=True), **more)
    return token


def new_keys(keyring: Keyring) -> Keys:
    return Keys(zmq.curve_keypair()[1].decode(), keyring.public("master"))


def address_of(master: Daemon) -> str:
    return f"127.0.0.1:{master.words[master.words.index('--port') + 1]}"


def kill_leader(cluster: LocalCluster) -> Daemon:
    old = cluster.kill_leader()
    wait_until(lambda: cluster.leader() is not old, "the other master to lead")
    return old


def test_tokens_keys_and_revocations_are_the_same_under_the_next_leader(
    cluster: LocalCluster, keyring: Keyring
) -> None:
    token, mine, other = new_word(cluster, keyring, uses=2), new_keys(keyring), new_keys(keyring)
    enrol(cluster.address, token, "carol", public_of(mine.secret))
    (standby,) = (master for master in cluster.masters if master is not cluster.leader())
    wait_until(lambda: is_known(address_of(standby), mine), "the one that stands by to know the key")

    old = kill_leader(cluster)
    with OperatorClient(Connection(master_address(cluster.address), mine), timeout_s=30) as carol:
        assert carol.cluster()
        assert {key.name for key in carol.known_keys()} >= {"carol", "ops"}
    enrol(cluster.address, token, "dave", public_of(other.secret), timeout_s=30)
    with pytest.raises(KeyRefused):
        enrol(cluster.address, token, "eve", public_of(new_keys(keyring).secret))
    with OperatorClient(cluster.address, timeout_s=30) as ops:
        ops.revoke_key("carol")

    old.start()
    wait_until(lambda: is_answering(address_of(old), keyring.keys("ops")), "the old leader to stand by")
    assert not is_known(address_of(old), mine)
    assert not is_known(address_of(old), token)
    assert is_known(address_of(old), other)


def is_answering(master: str, keys: Keys) -> bool:
    try:
        return is_known(master, keys, 1.0)
    except OfferdError:
        return False
