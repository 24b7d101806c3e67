"""Which calls go into which offers, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.cluster_future import ClusterFuture, Options
from offerd.core.slots import is_long
from offerd.ids import OfferID, SlaveID
from offerd.messages import Offer
from offerd.python_calls.call_queue import ACCEPT_BYTES, CALL_OVERHEAD_BYTES, CallQueue, Room, smallest
from offerd.resources import Resources

Call = ClusterFuture[Any]


NAME_BYTES = 4 * len("f")


class Harness:
    """A queue, with short methods for what goes in and comes out."""

    def __init__(self) -> None:
        self.queue = CallQueue()

    def put(
        self,
        count: int = 1,
        *,
        cpus: float = 1,
        timeout: float | None = 5.0,
        data: bytes = b"",
        name: str = "f",
    ) -> list[Call]:
        options = Options.make(
            self.queue.shape,
            cpus=cpus,
            mem=0,
            timeout=timeout,
            retries=0,
            kill_grace_s=None,
            resources="",
            name="",
        )
        calls: list[Call] = [ClusterFuture(lambda _: None, options, name, data) for _ in range(count)]
        for call in calls:
            self.queue.put(call)
        return calls

    def fill(self, *offers: Offer) -> list[list[Call]]:
        return [room.calls for room in self.queue.fill_all(offers)]


def offer(cpus: float, long_cpus: float | None = None, *, short_limit_s: float = 60.0) -> Offer:
    resources = Resources.of(cpus=cpus)
    long = resources.scalars if long_cpus is None else {"cpus": int(long_cpus * 1000)}
    return Offer(OfferID("O"), SlaveID("S"), "host", resources, long, short_limit_s)


def room_cpus(calls: list[Call]) -> int:
    return sum(call.options.shape.resources.millicpus for call in calls)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_calls_of_one_shape_go_first_come_first_served(harness: Harness) -> None:
    calls = harness.put(5)
    assert harness.fill(offer(3)) == [calls[:3]]
    assert harness.fill(offer(3)) == [calls[3:]]
    assert harness.queue.size == 0
    assert harness.fill(offer(3)) == [[]]


def test_equal_requests_share_one_shape(harness: Harness) -> None:
    one, two = harness.put(), harness.put()
    other = harness.put(timeout=6.0)
    assert one[0].options.shape is two[0].options.shape
    assert one[0].options.shape is not other[0].options.shape


def test_few_calls_are_divided_evenly(harness: Harness) -> None:
    harness.put(4)
    assert [len(calls) for calls in harness.fill(offer(8), offer(8), offer(8), offer(8))] == [1, 1, 1, 1]


def test_what_an_even_share_leaves_goes_where_it_fits(harness: Harness) -> None:
    harness.put(10)
    assert [len(calls) for calls in harness.fill(offer(1), offer(20))] == [1, 9]


def test_a_large_call_that_does_not_fit_lets_smaller_ones_pass(harness: Harness) -> None:
    large, small = harness.put(cpus=4), harness.put(2, cpus=1)
    assert harness.fill(offer(3)) == [small]
    assert harness.fill(offer(4)) == [large]


def test_the_oldest_shape_is_served_first(harness: Harness) -> None:
    small, large = harness.put(3, cpus=1), harness.put(cpus=2)
    assert harness.fill(offer(4)) == [small]
    younger = harness.put(3, cpus=1)
    assert harness.fill(offer(4)) == [[*large, *younger[:2]]]


def test_long_calls_stay_within_their_part_and_short_ones_take_the_rest(harness: Harness) -> None:
    long, short = harness.put(4, timeout=None), harness.put(4, timeout=60.0)
    assert harness.fill(offer(4, long_cpus=2)) == [[*long[:2], *short[:2]]]


def test_a_limit_above_that_of_the_slave_is_long_there(harness: Harness) -> None:
    harness.put(4, timeout=61.0)
    assert [len(calls) for calls in harness.fill(offer(4, long_cpus=1))] == [1]


def test_a_name_that_the_offer_lacks_counts_as_zero(harness: Harness) -> None:
    harness.put()
    empty = Offer(OfferID("O"), SlaveID("S"), "host", Resources.of(mem="1G"))
    assert harness.fill(empty) == [[]]


def test_an_accept_takes_no_more_bytes_than_it_may(harness: Harness) -> None:
    harness.put(5, cpus=0.1, data=b"\x00" * (ACCEPT_BYTES // 2 - CALL_OVERHEAD_BYTES - NAME_BYTES))
    assert [len(calls) for calls in harness.fill(offer(4))] == [2]
    assert harness.queue.size == 3


def test_the_names_of_calls_count(harness: Harness) -> None:
    harness.put(2000, cpus=0.001, name="\N{SNOWMAN}" * 200)
    assert [len(calls) for calls in harness.fill(offer(4))] == [ACCEPT_BYTES // (800 + CALL_OVERHEAD_BYTES)]


def test_the_largest_call_goes_alone(harness: Harness) -> None:
    harness.put(2, data=b"\x00" * (ACCEPT_BYTES - CALL_OVERHEAD_BYTES))
    assert [len(calls) for calls in harness.fill(offer(4))] == [1]


def test_cancelled_calls_are_skipped(harness: Harness) -> None:
    calls = harness.put(4)
    for call in calls[1:3]:
        super(ClusterFuture, call).cancel()
    assert harness.fill(offer(2)) == [[calls[0], calls[3]]]
    assert harness.queue.size == 0


def test_pruning_drops_cancelled_calls_up_to_the_first_that_is_not(harness: Harness) -> None:
    calls = harness.put(4)
    shape = calls[0].options.shape
    for call in (calls[0], calls[2]):
        super(ClusterFuture, call).cancel()
    harness.queue.prune(shape)
    assert harness.queue.size == 3
    for call in (calls[1], calls[3]):
        super(ClusterFuture, call).cancel()
    harness.queue.prune(shape)
    assert harness.queue.size == 0
    assert harness.queue.waiting_shapes() == set()


def test_a_call_put_back_is_first_again_under_a_new_task_id(harness: Harness) -> None:
    first, second = harness.put(2)
    harness.fill(offer(1))
    task_id = first.task_id
    first.tries += 1
    harness.queue.put_back(first)
    assert harness.fill(offer(1)) == [[first]]
    assert first.task_id != task_id
    assert harness.fill(offer(1)) == [[second]]


def test_clearing_gives_back_every_call(harness: Harness) -> None:
    calls = [*harness.put(2), *harness.put(cpus=2)]
    assert set(harness.queue.clear()) == set(calls)
    assert harness.queue.size == 0
    assert harness.fill(offer(9)) == [[]]


def test_the_smallest_useful_offer_has_the_least_of_each_name() -> None:
    queue = CallQueue()
    one = queue.shape(Resources.of(cpus=1, mem="1G"), None)
    two = queue.shape(Resources.of(cpus=2, mem="1M"), None)
    bare = queue.shape(Resources.of(cpus=3), None)
    assert smallest([one, two]) == {"cpus": 1000, "mem": 1 << 20}
    assert smallest([one, bare]) == {"cpus": 1000}
    assert smallest([]) == {}


def test_forgotten_shapes_are_not_kept(harness: Harness) -> None:
    for number in range(100):
        harness.put(timeout=1.0 + number)
    harness.queue.clear()
    assert len(harness.queue._shapes) == 0


@given(
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from([None, 5.0, 90.0])), max_size=30),
    st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16)), min_size=1, max_size=5),
)
def test_no_offer_is_overfilled_and_no_call_is_lost_or_doubled(
    wanted: list[tuple[int, float | None]], given_offers: list[tuple[int, int]]
) -> None:
    harness = Harness()
    calls = [harness.put(cpus=cpus, timeout=timeout)[0] for cpus, timeout in wanted]
    offers = [offer(cpus, long_cpus) for cpus, long_cpus in given_offers]
    placed = harness.fill(*offers)
    for room, filled in zip(offers, placed, strict=True):
        assert room_cpus(filled) <= room.resources.millicpus
        long = [call for call in filled if is_long(call.options.shape.time_limit_s, room.short_limit_s)]
        assert room_cpus(long) <= room.long_quantities.get("cpus", 0)
    taken = [call for filled in placed for call in filled]
    left = harness.queue.clear()
    assert len(taken) + len(left) == len(calls)
    assert {*taken, *left} == set(calls)
    # No call that is left would have fitted, too.
    for room, filled in zip(offers, placed, strict=True):
        rest = Room(room)
        for call in filled:
            rest.take(call.options.shape, 1)
        assert all(rest.holds(call.options.shape) == 0 for call in left)
