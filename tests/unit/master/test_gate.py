"""How often a key may connect."""

from __future__ import annotations

from offerd_master.gate import CONNECTIONS_A_SECOND, CONNECTIONS_AT_ONCE, MAX_NAMED, Paces


def test_a_keys_connections_are_bounded_at_once_and_per_second() -> None:
    paces = Paces()
    assert sum(paces.takes("alice", 10.0) for _ in range(3 * CONNECTIONS_AT_ONCE)) == CONNECTIONS_AT_ONCE
    assert paces.takes("bob", 10.0)
    seconds = [10.0 + number / 1000 for number in range(1, 5001)]
    assert abs(sum(paces.takes("alice", now) for now in seconds) - 5 * CONNECTIONS_A_SECOND) <= 1
    assert (
        sum(paces.takes("alice", 1_000_000.0) for _ in range(3 * CONNECTIONS_AT_ONCE)) == CONNECTIONS_AT_ONCE
    )


def test_countless_keys_cost_no_memory() -> None:
    paces = Paces()
    for number in range(MAX_NAMED + 100):
        assert paces.takes(str(number), 0.0)
    assert len(paces._left) == MAX_NAMED
