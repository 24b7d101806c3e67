"""A client without credentials at the ZooKeeper of masters with a key: it can read which master leads, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, NotEmptyError
from kazoo.security import READ_ACL_UNSAFE, make_acl

from helpers.cli import wait_until
from helpers.ensemble import Ensemble, needs_zookeeper
from helpers.keyring import Keyring
from offerd.credentials.keys import read_secret
from offerd.masters.detector import LeaderDetector, find_leader
from offerd.masters.leader import ZooKeeperAddress, describe_master
from offerd.masters.zookeeper_access import Access, derived_access, new_client
from offerd.messages import Ping
from offerd.wire import codec
from offerd_master.election import Election, Leading, Out, StandingBy

pytestmark = needs_zookeeper

SESSION_S = 2.0
OURS, OTHERS = Access("offerd-masters", "one"), Access("offerd-masters", "another")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    with Ensemble(tmp_path_factory.mktemp("zookeeper")) as ensemble:
        yield ensemble


@pytest.fixture
def address(ensemble: Ensemble, request: pytest.FixtureRequest) -> ZooKeeperAddress:
    """A path of the test's own."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    return ensemble.address._replace(path=f"/{name}")


@pytest.fixture
def stranger(address: ZooKeeperAddress) -> Iterator[KazooClient]:
    """A client without credentials."""
    client = new_client(address)
    client.start()
    yield client
    client.stop()
    client.close()


class Candidate(Election):
    """A master's candidacy without the master."""

    def __init__(self, address: ZooKeeperAddress, port: int, access: Access | None = OURS) -> None:
        self.at = f"127.0.0.1:{port}"
        node = describe_master(f"M-{port}", self.at, "host", "1")
        super().__init__(address, node, SESSION_S, lambda: None, access)

    def wait_to_lead(self) -> Leading:
        wait_until(lambda: isinstance(self.place, Leading), f"{self.at} to lead")
        assert isinstance(self.place, Leading)
        return self.place

    def wait_to_be_out(self) -> str:
        """Returns why."""
        wait_until(lambda: isinstance(self.place, Out), f"{self.at} to end")
        assert isinstance(self.place, Out)
        return self.place.why


@pytest.fixture
def candidates() -> Iterator[Callable[..., Candidate]]:
    made: list[Candidate] = []

    def make(*words: object) -> Candidate:
        made.append(Candidate(*words))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for candidate in made:
        candidate.close()


def test_a_client_without_credentials_can_only_read_which_master_leads(
    address: ZooKeeperAddress, stranger: KazooClient, candidates: Callable[..., Candidate]
) -> None:
    first = candidates(address, 1001)
    epoch = first.wait_to_lead().epoch
    second = candidates(address, 1002)
    wait_until(lambda: second.place == StandingBy(f"tcp://{first.at}"), "the second to follow")
    path, leads = address.path, f"{address.path}/json.info_0000000000"

    forbidden: list[Callable[[], object]] = [
        lambda: stranger.create(f"{path}/json.info_", b"me", sequence=True),
        lambda: stranger.create(f"{path}/json.info_0", b"me"),
        lambda: stranger.create(f"{path}/keys", b""),
        lambda: stranger.create(f"{leads}/below", b""),
        lambda: stranger.set(path, b"x"),
        lambda: stranger.set(leads, b"x"),
        lambda: stranger.set(f"{path}/epoch", b"9" * 30),
        lambda: stranger.get(f"{path}/epoch"),
        lambda: stranger.delete(leads),
        lambda: stranger.delete(f"{path}/epoch"),
        *(
            lambda node=node: stranger.set_acls(node, READ_ACL_UNSAFE)
            for node in (path, leads, f"{path}/epoch")
        ),
    ]
    for attempt in forbidden:
        with pytest.raises(NoAuthError):
            attempt()
    with pytest.raises(NotEmptyError):
        stranger.delete(path)

    assert find_leader(address, 5) == f"tcp://{first.at}"
    assert first.wait_to_lead().epoch == epoch
    first.close()
    assert second.wait_to_lead().epoch > epoch


@pytest.mark.parametrize("access", [None, OTHERS])
def test_a_master_without_the_masters_credentials_ends_and_says_what_to_do(
    address: ZooKeeperAddress, candidates: Callable[..., Candidate], access: Access | None
) -> None:
    leader = candidates(address, 1001)
    leader.wait_to_lead()
    why = candidates(address, 1002, access).wait_to_be_out()
    assert "another path" in why
    assert "--key" in why if access is not None else "with a key" in why
    leader.wait_to_lead()


def test_a_path_that_others_may_write_to_is_refused_with_what_to_do(
    address: ZooKeeperAddress, stranger: KazooClient, candidates: Callable[..., Candidate]
) -> None:
    stranger.ensure_path(address.path)
    why = candidates(address, 1001).wait_to_be_out()
    assert f"deleteall {address.path}" in why
    assert "\n" not in why
    assert stranger.get_children(address.path) == []
    stranger.delete(address.path)
    candidates(address, 1001).wait_to_lead()


@pytest.mark.parametrize("name", ["epoch", "json.info_0000000000"])
def test_a_node_that_a_stranger_left_in_a_path_closed_since_is_refused(
    address: ZooKeeperAddress, stranger: KazooClient, candidates: Callable[..., Candidate], name: str
) -> None:
    stranger.create(f"{address.path}/{name}", b"7", makepath=True)
    stranger.set_acls(address.path, OURS.acl(world_may_read=True))
    assert f"write at {address.path}/{name}" in candidates(address, 1001).wait_to_be_out()


def test_a_path_that_was_replaced_before_the_master_enters_is_refused(
    address: ZooKeeperAddress, stranger: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that may write to the root may remove the masters' path while it is empty."""
    enter = Candidate._enter

    def swap_and_enter(self: Candidate) -> None:
        stranger.delete(address.path)
        stranger.create(address.path)
        enter(self)

    monkeypatch.setattr(Candidate, "_enter", swap_and_enter)
    candidate = Candidate(address, 1001)
    try:
        assert "deleteall" in candidate.wait_to_be_out()
    finally:
        candidate.close()


def test_only_the_masters_have_rights_beyond_reading() -> None:
    mine = OURS.acl(world_may_read=True)
    assert OURS.guards(mine)
    assert not OTHERS.guards(mine)
    for right in ("write", "create", "delete", "admin"):
        assert not OURS.guards([*mine, make_acl("ip", "10.0.0.1", **{right: True})])


HOSTILE_NODES = {
    "json.info_²": b"",
    "json.info_" + "1" * 5000: b"",
    "json.info_-0000001": b"",
    "json.info_": b"",
    "json.info_0000000000": b"[" * 500_000,
}


@pytest.mark.parametrize(
    ("node", "epoch"),
    [
        (b"[" * 500_000, b"9" * 30),
        (b'{"address": ' * 300, b"%d" % 2**63),
        (b"", b"-1"),
        (b"\xff", "²".encode()),
        (b"[1]", b""),
        (b'{"address": {"ip": 3, "port": 1e999}}', b"x" * 900_000),
        (b'{"address": {"ip": "1.2.3.4", "port": ' + b"9" * 4000 + b"}}", b"9" * 5000),
        (b'{"address": {"ip": "1.2.3.4", "port": 1, "x": "' + b"y" * 900_000 + b'"}}', b"%d" % (2**63 - 2)),
    ],
)
def test_without_keys_foreign_nodes_end_neither_detector_nor_election(
    address: ZooKeeperAddress,
    stranger: KazooClient,
    candidates: Callable[..., Candidate],
    node: bytes,
    epoch: bytes,
) -> None:
    for name, data in {**HOSTILE_NODES, "json.info_0000000000": node, "epoch": epoch}.items():
        stranger.create(f"{address.path}/{name}", data, makepath=True)
    detector = LeaderDetector(address)
    try:
        candidate = candidates(address, 1001, None)
        wait_until(
            lambda: len(stranger.get_children(address.path)) == len(HOSTILE_NODES) + 2,
            "the candidate to stand in line",
        )
        assert candidate.place == StandingBy("")
        stranger.delete(f"{address.path}/json.info_0000000000")
        leading = candidate.wait_to_lead()
        assert 0 < leading.epoch < 2**63
        assert list(codec.frames([Ping()], leading.epoch))
        wait_until(lambda: detector.taken() == f"tcp://{candidate.at}", "the detector to find it")
    finally:
        detector.close()


def test_masters_with_a_key_derive_their_credentials_from_it_and_end_where_others_may_write(
    address: ZooKeeperAddress, stranger: KazooClient, tmp_path: Path
) -> None:
    keyring = Keyring(tmp_path)
    master = [sys.executable, "-m", "offerd_cli.main", "master", "--port", "0", *keyring.master_words()]
    words = [*master, "--zk", f"{address.hosts}{address.path}"]
    stranger.ensure_path(address.path)
    refused = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "deleteall" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr

    stranger.delete(address.path)
    running = subprocess.Popen([*words, "--die-with-parent"], stderr=subprocess.DEVNULL)
    try:
        assert find_leader(address, 30)
        access = derived_access(read_secret(keyring.file("master")))
        acl, _ = stranger.get_acls(address.path)
        assert [entry.perms for entry in acl] == [31, 1]
        ours = new_client(address, access=access)
        ours.start()
        wait_until(lambda: ours.exists(f"{address.path}/epoch") is not None, "it to lead")
        assert ours.get(f"{address.path}/epoch")[0].isdigit()
        ours.stop()
        ours.close()
    finally:
        running.terminate()
        running.wait(20)
