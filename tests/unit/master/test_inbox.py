"""What waits at a master: while it stands by, not for long and not much."""

from __future__ import annotations

from offerd.errors import BadMessage
from offerd.ids import PeerID
from offerd_master.inbox import HOLD_S, MAX_HELD, MAX_HELD_BYTES, Held

MEBIBYTE = bytes(1 << 20)


def peer(number: int) -> PeerID:
    return PeerID(b"%d" % number)


def test_what_has_come_is_held_for_a_while_and_in_order() -> None:
    held = Held()
    held.put(0.0, peer(1), b"hello", "key")
    held.put(0.3, peer(2), BadMessage("none"), "")
    assert list(held.overdue(HOLD_S - 0.01)) == []
    assert [each[0] for each in held] == [peer(1), peer(2)]
    assert list(held.overdue(HOLD_S)) == [peer(1)]
    assert [each[0] for each in held] == [peer(2)]


def test_no_more_is_held_than_hellos_take_however_it_comes() -> None:
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
