"""`ClusterExecutor` keeps one offer for a moment after a call, and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from helpers.fake_master import InstantCluster
from offerd.cluster_executor import ClusterExecutor
from offerd.messages import AcceptOffers, DeclineOffers, TaskInfo, TaskState, TaskStatus
from offerd.python_calls import call_scheduler, calls
from offerd.resources import Resources

WAIT_S = 10.0
SLAVE = Resources.of(cpus=4, mem="4G")


def one(task: TaskInfo) -> TaskStatus:
    """Every call's result."""
    data = calls.pack_result(calls.Inline(calls.pickle_value(1)), calls.unpack_call(task.data).key)
    return TaskStatus(task.task_id, TaskState.FINISHED, 1, data=data)


@contextmanager
def cluster(slaves: int = 1) -> Iterator[tuple[InstantCluster, ClusterExecutor]]:
    with (
        InstantCluster(SLAVE, slaves=slaves, outcome=one) as fake,
        ClusterExecutor(fake.address) as executor,
    ):
        yield fake, executor


def test_the_next_call_soon_after_a_result_needs_no_new_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_scheduler, "WARM_S", 60.0)  # a moment that no busy host lets pass
    with cluster() as (fake, executor):
        executor.submit(len, "a").result(WAIT_S)
        fake.wait_for(lambda: fake.free_offers() == 1)
        offers_so_far = fake.offers_made
        before = len(fake.received)
        assert executor.submit(len, "a").result(WAIT_S) == 1
        # The word that the kept offer is enough may come before it or after it: only what is accepted counts.
        fake.wait_for(lambda: any(isinstance(m, AcceptOffers) for m in fake.received[before:]))
        accept = next(m for m in fake.received[before:] if isinstance(m, AcceptOffers))
        assert accept.offer_ids == [f"O-{offers_so_far}"]


def test_of_several_offers_one_is_kept_after_a_call_and_given_back_when_no_other_comes() -> None:
    with cluster(slaves=5) as (fake, executor):
        executor.submit(len, "a").result(WAIT_S)
        assert fake.free_offers() <= 5
        fake.wait_for(lambda: fake.free_offers() == 0 and not fake.needs_offers)
        kept = [m for m in fake.received if isinstance(m, DeclineOffers)]
        assert kept[-1].refuse_seconds == 0.0
        assert len(kept[-1].offer_ids) == 1
