"""What waits at a master: each peer in turn, key after key; at a standby master, briefly and not much."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from offerd import messages as m
from offerd.errors import BadMessage
from offerd.ids import PeerID
from offerd_master import inbox
from offerd_master.inbox import (
    HOLD_S,
    MAX_HELD,
    MAX_HELD_BYTES,
    MAX_KEY_BYTES,
    MAX_WAITING_BYTES,
    SLICE_S,
    TURN_S,
    Held,
    Inbox,
)

MEBIBYTE = bytes(1 << 20)


def peer(number: int) -> PeerID:
    return PeerID(b"%d" % number)


def test_frames_are_held_for_a_while_and_in_order() -> None:
    held = Held()
    held.put(0.0, peer(1), b"hello", "key")
    held.put(0.3, peer(2), BadMessage("none"), "")
    assert list(held.overdue(HOLD_S - 0.01)) == []
    assert [each[0] for each in held] == [peer(1), peer(2)]
    assert list(held.overdue(HOLD_S)) == [peer(1)]
    assert [each[0] for each in held] == [peer(2)]


def test_no_more_is_held_than_registrations_need_however_it_comes() -> None:
    held = Held()
    for number in range(100):
        held.put(0.0, peer(number), MEBIBYTE, "")
    assert list(held.overdue(0.0)) == [
        peer(number) for number in range(100 - MAX_HELD_BYTES // len(MEBIBYTE))
    ]
    for number in range(2 * MAX_HELD):
        held.put(0.0, peer(number), b"", "")
        list(held.overdue(0.0))
    assert len(held) == MAX_HELD
    assert len(list(held.overdue(HOLD_S))) == MAX_HELD
    held.put(1.0, peer(1), MEBIBYTE * 16, "")
    assert list(held.overdue(1.0)) == []


class Clock:
    """Stands still except for the time that handling takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Site:
    """An inbox in which each message takes the time that its peer chooses; `handled` lists the senders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_s: dict[PeerID, float]) -> None:
        self.clock = Clock()
        monkeypatch.setattr(inbox, "time", self.clock)
        self.takes_s = takes_s
        self.handled: list[PeerID] = []
        self.inbox = Inbox(self._decode, self._handle, lambda _peer, _fault, _key: False)

    def _decode(self, frame: bytes) -> tuple[int, Sequence[m.Message]]:
        return 0, [m.Pong()] * int(frame)

    def _handle(self, sender: PeerID, _message: m.Message, _key: str) -> bool:
        self.handled.append(sender)
        self.clock.now += self.takes_s.get(sender, 0.0)
        return True


def test_one_message_that_takes_long_uses_a_whole_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, {peer(1): 0.9 * TURN_S})
    site.inbox.put(peer(1), b"500", "slow")
    site.inbox.put(peer(2), b"3", "other")
    site.inbox.turn()
    assert site.handled == [peer(1), peer(2), peer(2), peer(2), peer(1)]


def test_a_key_with_many_connections_has_one_turn_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = [peer(number) for number in range(300)]
    site = Site(monkeypatch, dict.fromkeys(crowd, SLICE_S))
    for one in crowd:
        site.inbox.put(one, b"100", "crowd")
    site.inbox.put(peer(1000), b"2", "other")
    site.inbox.put(peer(1001), b"1", "")
    site.inbox.put(peer(1002), b"1", "")
    site.inbox.turn()
    assert site.handled[:5] == [peer(0), peer(1000), peer(1000), peer(1001), peer(1002)]
    assert set(site.handled[5:]) <= set(crowd)
    while site.inbox:
        site.inbox.turn()
    assert [site.handled.count(one) for one in crowd] == [100] * len(crowd)
    assert site.handled[5:300] == crowd[1:296], "its peers are served in turn"


def test_what_may_wait_for_all_connections_of_a_key_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, {})
    frame = bytes(MAX_WAITING_BYTES // 4)
    number = MAX_KEY_BYTES // len(frame)
    assert all(site.inbox.put(peer(each), frame, "crowd") for each in range(number))
    assert not site.inbox.put(peer(number), frame, "crowd")
    assert site.inbox.put(peer(number + 1), frame, "other")
    site.inbox.forget(peer(number))
    site.inbox.forget(peer(0))
    assert site.inbox.put(peer(0), frame, "crowd")
    assert all(site.inbox.put(peer(100 + each), frame, "") for each in range(number + 1))
