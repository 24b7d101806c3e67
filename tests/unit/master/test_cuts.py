"""A dropped peer has a moment to read the reason; this costs the master little, however many are dropped."""

from __future__ import annotations

import math

from offerd.ids import PeerID
from offerd_master.cuts import CUT_AFTER_S, MAX_DROPPED, MAX_SENT_BYTES, Cuts


def peers(count: int) -> list[PeerID]:
    return [PeerID(str(number).encode()) for number in range(count)]


def test_connections_end_a_moment_after_their_peers_were_sent_the_reason() -> None:
    cuts = Cuts()
    assert cuts.next_deadline() == math.inf
    one, other = peers(2)
    assert cuts.put_peer(one, 10.0) == []
    cuts.put_keys(frozenset(["key"]), 10.5)
    cuts.put_keys(frozenset(), 10.6)
    assert cuts.put_peer(other, 10.7) == []
    assert cuts.next_deadline() == 10.0 + CUT_AFTER_S
    assert (cuts.due_peers(10.9), cuts.due_keys(10.9)) == ([], frozenset())
    assert (cuts.due_peers(11.0), cuts.due_keys(11.0)) == ([one], frozenset())
    assert cuts.next_deadline() == 10.5 + CUT_AFTER_S
    assert (cuts.due_peers(12.0), cuts.due_keys(12.0)) == ([other], frozenset(["key"]))
    assert cuts.next_deadline() == math.inf


def test_the_oldest_of_many_end_at_once() -> None:
    cuts = Cuts()
    many = peers(MAX_DROPPED + 10)
    ended = [ended for peer in many for ended in cuts.put_peer(peer, 0.0)]
    assert ended == many[:10]
    assert cuts.due_peers(CUT_AFTER_S) == many[10:]


def test_a_peer_that_goes_on_sending_is_cut_off_at_once() -> None:
    cuts = Cuts()
    flooder, quiet, stranger = peers(3)
    cuts.put_peer(flooder, 0.0)
    cuts.put_peer(quiet, 0.0)
    assert not cuts.is_too_much(flooder, MAX_SENT_BYTES)
    assert not cuts.is_too_much(quiet, 100)
    assert cuts.is_too_much(flooder, 1)
    assert not cuts.is_too_much(flooder, 1), "its connection has ended"
    assert not cuts.is_too_much(stranger, 2 * MAX_SENT_BYTES), "it was not dropped"
    assert cuts.due_peers(CUT_AFTER_S) == [quiet]
