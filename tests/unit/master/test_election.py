"""A leader that raises its epoch over a connection that breaks at the worst time, with a ZooKeeper of one small dict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from kazoo.exceptions import BadVersionError, ConnectionLoss, NoNodeError

from helpers.cli import wait_until
from offerd.masters.leader import ZooKeeperAddress
from offerd_master import election
from offerd_master.election import Election, Leading, Out

SESSION = 7
EPOCH = "/offerd/epoch"


class Stat(NamedTuple):
    version: int
    ephemeralOwner: int


class ScriptedClient:
    """The part of kazoo that an election uses. `before_epoch_write` may break the connection before a write of the epoch takes
    effect, `after_epoch_write` after that.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[bytes, Stat]] = {}
        self.connected = True
        self.client_id = (SESSION, b"")
        self.before_epoch_write: Callable[[], None] | None = None
        self.after_epoch_write: Callable[[], None] | None = None
        self._connection = SimpleNamespace(_connect=None)
        self._lock = threading.Lock()

    def add_listener(self, _listener: object) -> None: ...

    def start_async(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def ensure_path(self, _path: str, acl: object) -> None: ...

    def get_children(self, path: str, watch: object = None) -> list[str]:
        return [name.removeprefix(f"{path}/") for name in self.nodes]

    def exists(self, path: str) -> Stat | None:
        return self.nodes[path][1] if path in self.nodes else None

    def get(self, path: str) -> tuple[bytes, Stat]:
        if path not in self.nodes:
            raise NoNodeError
        return self.nodes[path]

    def create(
        self,
        path: str,
        data: bytes,
        *,
        acl: object = None,
        ephemeral: bool = False,
        sequence: bool = False,
    ) -> None:
        self.nodes[f"{path}{0:010}" if sequence else path] = (data, Stat(0, SESSION if ephemeral else 0))

    def set(self, path: str, data: bytes, version: int) -> Stat:
        if path == EPOCH:
            self._once("before_epoch_write")
        stat = self.write(path, data, version)
        if path == EPOCH:
            self._once("after_epoch_write")
        return stat

    def write(self, path: str, data: bytes, version: int = -1) -> Stat:
        """A write by anybody."""
        with self._lock:
            _, before = self.get(path)
            if version not in (-1, before.version):
                raise BadVersionError
            stat = before._replace(version=before.version + 1)
            self.nodes[path] = (data, stat)
            return stat

    def _once(self, name: str) -> None:
        happens = getattr(self, name)
        setattr(self, name, None)
        if happens is not None:
            happens()

    @property
    def epoch(self) -> int:
        return int(self.nodes[EPOCH][0])


def breaks() -> None:
    raise ConnectionLoss


class Leader:
    def __init__(self, client: ScriptedClient) -> None:
        self.client = client
        self.election = Election(ZooKeeperAddress("nowhere:2181", "/offerd"), b"me", 0.5, lambda: None)
        wait_until(lambda: isinstance(self.place, Leading), "it to lead")

    @property
    def place(self) -> Any:
        return self.election.place

    def leads_in(self, epoch: int) -> bool:
        return isinstance(self.place, Leading) and self.place.epoch == epoch


@pytest.fixture
def leader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leader]:
    client = ScriptedClient()
    monkeypatch.setattr(election, "new_client", lambda *_: client)
    leader = Leader(client)
    yield leader
    leader.election.close()


def test_an_epoch_is_ours_even_if_the_answer_was_lost(leader: Leader) -> None:
    later = leader.place.epoch + 10**9
    leader.client.after_epoch_write = breaks
    leader.election.raise_epoch(later)
    wait_until(lambda: leader.leads_in(later + 1) or isinstance(leader.place, Out), "the epoch to be raised")
    assert leader.leads_in(later + 1), leader.place
    leader.election.raise_epoch(later + 5)
    wait_until(lambda: leader.leads_in(later + 6), "the next one to be raised over that")
    assert leader.client.epoch == later + 6


def test_an_epoch_is_ours_if_the_first_write_takes_effect_during_the_second(leader: Leader) -> None:
    """The first try is delayed, and takes effect just before the second."""
    later = leader.place.epoch + 10**9

    def arrives_late() -> None:
        leader.client.before_epoch_write = lambda: void(leader.client.write(EPOCH, b"%d" % (later + 1)))
        raise ConnectionLoss

    leader.client.before_epoch_write = arrives_late
    leader.election.raise_epoch(later)
    wait_until(lambda: leader.leads_in(later + 1) or isinstance(leader.place, Out), "the epoch to be raised")
    assert leader.leads_in(later + 1), leader.place


@pytest.mark.parametrize("times", [1, 2])
def test_an_epoch_of_another_master_after_a_lost_answer_ends_us(leader: Leader, times: int) -> None:
    """Even if it is the number that we wanted, because the other has written it in several steps."""
    later = leader.place.epoch + 10**9

    def another_leads() -> None:
        for number in range(times):
            leader.client.write(EPOCH, b"%d" % (later + times - number))
        raise ConnectionLoss

    leader.client.before_epoch_write = another_leads
    leader.election.raise_epoch(later + 5 if times == 1 else later)
    wait_until(lambda: isinstance(leader.place, Out), "it to notice")


def void(_: object) -> None:
    """For a callback that answers nothing."""
