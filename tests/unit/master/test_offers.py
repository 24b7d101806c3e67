"""Offers: who gets them, what refusals and filters do, and how offers end."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.master_harness import ClusterHarness, FrameworkPeer, SlavePeer, task
from offerd import messages as m
from offerd.ids import OfferID, SlaveID
from offerd.messages import Reason, TaskState
from offerd.resources import Resources
from offerd_master.allocation.entitlements import Entitlements
from offerd_master.allocation.policy import Policy, Terms


def two_cpu(slaves: int = 1) -> tuple[ClusterHarness, FrameworkPeer, list[m.Offer]]:
    """A framework that has been offered some slaves of two cpus."""
    cluster = ClusterHarness()
    for _ in range(slaves):
        cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    return cluster, framework, framework.offers()


def test_the_walk_of_figure_3() -> None:
    """Paper, part 2.2: what one framework's accept leaves goes to the next."""
    cluster = ClusterHarness()
    first, second = cluster.framework("first"), cluster.framework("second")
    slave = cluster.slave("cpus=4,mem=4G")
    offer = first.offer()
    assert offer.resources == Resources.parse("cpus=4,mem=4G")
    first.accept(offer, tasks=[task("t1", "cpus=2,mem=1G"), task("t2", "cpus=1,mem=2G")])
    assert [t.task_id for t in slave.take(m.RunTasks).tasks] == ["t1", "t2"]
    left = second.offer()
    assert left.resources == Resources.parse("cpus=1,mem=1G")
    second.accept(left, tasks=[task("u1", "cpus=1,mem=1G")])
    slave.take(m.RunTasks)
    slave.finish(first, "t1")
    # first holds 1 cpu and 2 of 4G, second 1 of each: what t1 leaves goes to the framework with less.
    assert second.offer().resources == Resources.parse("cpus=2,mem=1G")
    cluster.assert_nothing_else_sent()


def test_an_offer_has_everything_that_a_scheduler_needs() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave(
        "cpus=4,mem=8G,ports=[31000-31009]",
        "node1",
        attributes={"rack": "r1"},
        short_limit_s=20.0,
        files_address="h:1",
    )
    offer = cluster.framework().offer()
    assert (offer.slave_id, offer.hostname, offer.attributes) == (slave.slave_id, "node1", {"rack": "r1"})
    assert offer.long_quantities == {"cpus": 2000, "mem": 4 << 30, "ports": 5}
    assert (offer.short_limit_s, offer.files_address, offer.executor_ids) == (20.0, "h:1", [])


def test_offers_of_one_turn_to_one_framework_go_in_one_message() -> None:
    _, _, offers = two_cpu(slaves=3)
    assert len(offers) == 3


def test_all_that_is_free_goes_to_the_framework_with_the_lowest_share() -> None:
    """Mesos: UnreservedDRF."""
    cluster = ClusterHarness()
    rich, poor = cluster.framework("rich"), cluster.framework("poor")
    cluster.slave("cpus=4,mem=4G")
    rich.accept(rich.offer(), tasks=[task("t", "cpus=4,mem=4G")])
    cluster.slave("cpus=1,mem=1G")
    assert poor.offer().resources == Resources.parse("cpus=1,mem=1G")
    cluster.slave("cpus=1,mem=1G")
    assert len(poor.offers()) == 1
    assert rich.inbox == []


def test_equals_are_offered_in_turn() -> None:
    cluster = ClusterHarness()
    frameworks = [cluster.framework(f"f{n}") for n in range(3)]
    cluster.slave()
    order = []
    for _ in range(6):
        (taker,) = [f for f in frameworks if f.inbox]
        order.append(frameworks.index(taker))
        taker.decline(taker.offer(), refuse_seconds=0.0)
        if not any(f.inbox for f in frameworks):
            cluster.advance(1.0)
    assert order == [0, 1, 2, 0, 1, 2]


def test_a_declined_slave_is_offered_to_the_next_framework_at_once() -> None:
    cluster = ClusterHarness()
    first, second = cluster.framework("first"), cluster.framework("second")
    cluster.slave()
    first.decline(first.offer())
    second.offer()
    cluster.assert_nothing_else_sent()


def test_a_refused_slave_is_offered_again_when_the_refusal_expires() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.decline(offer, refuse_seconds=5.0)
    cluster.advance(4.9)
    cluster.assert_nothing_else_sent()
    cluster.advance(0.2)
    framework.offer()


def test_a_tiny_refusal_still_binds_in_the_same_turn() -> None:
    """Mesos: SmallOfferFilterTimeout."""
    cluster, framework, (offer,) = two_cpu()
    framework.decline(offer, refuse_seconds=0.001)
    cluster.assert_nothing_else_sent()
    cluster.advance(0.01)
    framework.offer()


@pytest.mark.parametrize("refuse_seconds", [0.0, -1.0])
def test_a_decline_for_no_time_is_paced_to_one_offer_a_second(refuse_seconds: float) -> None:
    cluster, framework, (offer,) = two_cpu()
    for _ in range(3):
        framework.decline(offer, refuse_seconds=refuse_seconds)
        cluster.advance(0.99)
        cluster.assert_nothing_else_sent()
        cluster.advance(0.02)
        offer = framework.offer()


def test_a_refusal_does_not_bind_once_more_is_free() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.accept(offer, tasks=[task("t1")])
    framework.decline(framework.offer(), refuse_seconds=3600.0)
    slave = cluster.peers[next(p for p in cluster.peers if p.startswith(b"Slave"))]
    slave.take(m.RunTasks)
    cluster.advance(1.0)
    cluster.assert_nothing_else_sent()
    slave.finish(framework, "t1")  # type: ignore[attr-defined]
    assert framework.offer().resources == Resources.parse("cpus=2,mem=2G")


def test_revive_forgets_refusals() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.decline(offer, refuse_seconds=1e9)
    framework.send(m.ReviveOffers())
    framework.offer()
    cluster.assert_nothing_else_sent()


@pytest.mark.parametrize("launches", [True, False])
def test_a_refusal_of_an_offer_that_was_open_at_a_revive_is_for_no_time(launches: bool) -> None:
    """One thread of a scheduler refuses an offer for lack of work, while another gets work and revives."""
    cluster, framework, (offer,) = two_cpu()
    framework.send(m.ReviveOffers())
    if launches:
        framework.accept(offer, tasks=[task("t1", "cpus=1")], refuse_seconds=3600.0)
    else:
        framework.decline(offer, refuse_seconds=3600.0)
        # It is paced like any other: a scheduler that revives with each offer must not get more each time.
        cluster.assert_nothing_else_sent()
        cluster.advance(1.01)
    again = framework.offer()
    framework.decline(again, refuse_seconds=3600.0)
    cluster.advance(60.0)
    assert framework.inbox == []


def test_what_an_accept_leaves_may_come_back_at_once_unless_it_was_refused() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.accept(offer, tasks=[task("t1", "cpus=0.5,mem=1M")])
    framework.accept(framework.offer(), tasks=[task("t2", "cpus=0.5,mem=1M")], refuse_seconds=2.0)
    cluster.advance(1.9)
    assert framework.inbox == []
    cluster.advance(0.2)
    assert framework.offer().resources.millicpus == 1000


def test_an_accept_without_tasks_declines() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.accept(offer, refuse_seconds=2.0)
    cluster.advance(1.9)
    cluster.assert_nothing_else_sent()
    cluster.advance(0.2)
    framework.offer()


def test_an_accept_that_launches_nothing_is_paced() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.accept(offer, tasks=[task("t1", "cpus=99")])
    framework.update(TaskState.ERROR)
    cluster.assert_nothing_else_sent()
    cluster.advance(1.01)
    framework.offer()


def test_a_framework_that_needs_no_offers_gets_none_until_it_does() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.send(m.SetNeedsOffers(False))
    framework.decline(offer, refuse_seconds=0.0)
    cluster.advance(10.0)
    cluster.assert_nothing_else_sent()
    framework.send(m.SetNeedsOffers(True))
    framework.offer()


def test_needing_offers_again_ends_a_pace_but_no_refusal() -> None:
    cluster, framework, (first, second) = two_cpu(slaves=2)
    framework.decline(first, refuse_seconds=0.0)
    framework.decline(second, refuse_seconds=60.0)
    framework.send(m.SetNeedsOffers(False))
    framework.send(m.SetNeedsOffers(True))
    assert framework.offer().slave_id == first.slave_id
    cluster.assert_nothing_else_sent()


def test_filters_by_slave_minimum_and_attributes() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    framework.send(m.SetFilters(m.Filters(minimum=Resources.parse("cpus=3"), attributes={"disk": "ssd"})))
    cluster.slave("cpus=2,mem=1G", attributes={"disk": "ssd"})
    cluster.slave("cpus=4,mem=1G", attributes={"disk": "hdd"})
    cluster.slave("cpus=4,mem=1G")
    cluster.assert_nothing_else_sent()
    good = cluster.slave("cpus=3,mem=1G", attributes={"disk": "ssd", "rack": "r1"})
    framework.decline(framework.offer(), refuse_seconds=0.0)
    framework.send(m.SetFilters(m.Filters(slave_ids=[SlaveID("S-none")])))
    cluster.advance(5.0)
    cluster.assert_nothing_else_sent()
    framework.send(m.SetFilters(m.Filters(slave_ids=[good.slave_id])))
    assert framework.offer().slave_id == good.slave_id


def test_revive_also_ends_a_silence_but_no_filter() -> None:
    """Mesos: revive un-suppresses."""
    cluster = ClusterHarness()
    slave = cluster.slave()
    framework = cluster.framework()
    framework.decline(framework.offer(), refuse_seconds=60.0)
    framework.send(m.SetFilters(m.Filters(slave_ids=[slave.slave_id], attributes_exist=["ssd"])))
    framework.send(m.SetNeedsOffers(False))
    framework.send(m.ReviveOffers())
    cluster.assert_nothing_else_sent()
    framework.send(m.SetFilters(m.Filters()))
    framework.offer()


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (m.Filters(attributes_exist=["ssd"]), 1),
        (m.Filters(attributes_exist=["ssd", "gpu"]), 0),
        (m.Filters(attributes={"rack": "r12"}), 1),
        (m.Filters(attributes_match={"rack": "r1?"}), 1),
        (m.Filters(attributes_match={"rack": "r1"}), 0),
        (m.Filters(attributes_match={"rack": "R*"}), 0),
        (m.Filters(attributes_match={"rack": "*"}), 1),
        (m.Filters(), 2),
    ],
)
def test_filters_by_constraints_on_attributes(filters: m.Filters, count: int) -> None:
    cluster = ClusterHarness()
    cluster.slave()
    cluster.slave(attributes={"rack": "r12", "ssd": ""})
    framework = cluster.framework()
    framework.decline(*framework.offers(), refuse_seconds=60.0)
    framework.send(m.SetFilters(filters))
    framework.send(m.ReviveOffers())
    offers = [offer for message in framework.take_all(m.ResourceOffers) for offer in message.offers]
    assert len(offers) == count
    assert not count or {"rack": "r12", "ssd": ""} in [offer.attributes for offer in offers]


def test_a_scheduler_with_too_many_patterns_is_dropped() -> None:
    cluster = ClusterHarness()
    framework = cluster.framework()
    framework.send(m.SetFilters(m.Filters(attributes_match={"rack": "*" * 300})))
    assert "longer than 256 letters" in cluster.drops[0].why


def test_a_slaves_own_minimum_offer_goes_before_the_masters() -> None:
    cluster = ClusterHarness(minimum_offer=Resources.of(cpus=8))
    small = cluster.slave("cpus=4,mem=4G", minimum_offer=Resources.of(cpus=2))
    cluster.slave("cpus=4,mem=4G")
    framework = cluster.framework()
    offer = framework.offer()
    assert offer.slave_id == small.slave_id
    framework.accept(offer, tasks=[task("t1"), task("t2"), task("t3")])
    small.take(m.RunTasks)
    cluster.assert_nothing_else_sent()
    small.finish(framework, "t1")
    assert framework.offer().resources.millicpus == 2000


def test_a_slave_that_could_never_be_offered_is_refused() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=1,mem=1G", registers=False, minimum_offer=Resources.of(cpus=2))
    slave.send(m.RegisterSlave(slave.info))
    assert "would never be offered" in slave.take(m.SlaveRefused).message


def test_what_one_framework_filters_goes_to_another() -> None:
    cluster = ClusterHarness()
    picky, other = cluster.framework("picky"), cluster.framework("other")
    picky.send(m.SetFilters(m.Filters(minimum=Resources.parse("cpus=64"))))
    cluster.slave()
    other.offer()


def test_less_than_the_minimum_offer_waits_until_more_is_free() -> None:
    cluster = ClusterHarness(minimum_offer=Resources.parse("cpus=1,mem=1G"))
    slave = cluster.slave("cpus=2,mem=4G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t1", "cpus=1.5,mem=1G")])
    slave.take(m.RunTasks)
    cluster.assert_nothing_else_sent()
    slave.finish(framework, "t1")
    assert framework.offer().resources == Resources.parse("cpus=2,mem=4G")


def test_a_minimum_counts_only_names_that_the_slave_has() -> None:
    cluster = ClusterHarness()
    cluster.slave("gpus=2")
    assert cluster.framework().offer().resources == Resources.parse("gpus=2")


def test_an_offer_not_answered_in_time_is_rescinded_and_made_again() -> None:
    cluster, framework, (offer,) = two_cpu()
    cluster.advance(29.9)
    cluster.assert_nothing_else_sent()
    cluster.advance(0.2)
    assert framework.take(m.RescindOffer).offer_id == offer.offer_id
    assert framework.offer().offer_id != offer.offer_id


def test_an_offer_once_used_is_not_rescinded() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.accept(offer, tasks=[task("t1", "cpus=2,mem=2G")])
    cluster.advance(60.0)
    assert not [x for x in framework.inbox if isinstance(x, m.RescindOffer)]


def test_an_offer_that_timed_out_cannot_be_used() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.send(m.SetNeedsOffers(False))
    cluster.advance(31.0)
    framework.take(m.RescindOffer)
    framework.accept(offer, tasks=[task("t1")])
    assert framework.update(TaskState.LOST).reason == Reason.OFFER_INVALID


def test_slave_lost_rescinds_its_offers() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    framework = cluster.framework()
    offer = framework.offer()
    slave.answers_pings = False
    cluster.advance(30.0)
    assert framework.take(m.RescindOffer).offer_id == offer.offer_id
    assert framework.take(m.SlaveLost).slave_id == slave.slave_id
    cluster.assert_nothing_else_sent()


def test_several_offers_of_one_slave_fund_one_task() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=2,mem=2G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t1")])
    slave.take(m.RunTasks)
    second = framework.offer()
    slave.finish(framework, "t1")
    third = framework.offer()
    framework.accept(second, third, tasks=[task("t2", "cpus=2,mem=2G")])
    assert [t.task_id for t in slave.take(m.RunTasks).tasks] == ["t2"]
    cluster.assert_nothing_else_sent()


def test_a_busy_slave_is_not_offered_again_within_its_batch_window() -> None:
    cluster = ClusterHarness(batch_window_s=0.01)
    slave = cluster.slave("cpus=3,mem=3G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task(f"t{n}") for n in range(3)])
    slave.take(m.RunTasks)
    cluster.advance(0.02)
    slave.finish(framework, "t0")
    framework.decline(framework.offer(), refuse_seconds=0.0)
    slave.finish(framework, "t1")
    cluster.assert_nothing_else_sent()
    cluster.advance(0.011)
    assert framework.offer().resources.millicpus == 2000


def test_an_idle_slave_does_not_wait_for_its_batch_window() -> None:
    cluster = ClusterHarness(batch_window_s=0.01)
    slave = cluster.slave("cpus=1,mem=1G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("t0")])
    slave.take(m.RunTasks)
    slave.finish(framework, "t0")
    framework.offer()


def test_answers_to_closed_offers_are_ignored() -> None:
    cluster, framework, (offer,) = two_cpu()
    framework.decline(offer, refuse_seconds=60.0)
    framework.decline(offer, refuse_seconds=60.0)
    framework.send(m.DeclineOffers([OfferID("O-nonsense")]))
    cluster.assert_nothing_else_sent()
    assert cluster.drops == []


def test_a_framework_cannot_answer_anothers_offer() -> None:
    cluster, framework, (offer,) = two_cpu()
    thief = cluster.framework("thief")
    thief.accept(offer, tasks=[task("t1")])
    assert thief.update(TaskState.LOST).reason == Reason.OFFER_INVALID
    thief.decline(offer)
    framework.accept(offer, tasks=[task("t1", "cpus=2,mem=2G")])
    cluster.advance(1.0)
    assert framework.inbox == []


def test_a_thousand_offers_fit_into_frames() -> None:
    cluster = ClusterHarness()
    attributes = {"blob": "x" * 60_000}
    for _ in range(40):
        cluster.slave("cpus=1,mem=1G", attributes=attributes)
    framework = cluster.framework()
    assert sum(len(message.offers) for message in framework.take_all(m.ResourceOffers)) == 40


def test_answered_offers_do_not_pile_up_behind_an_unanswered_one() -> None:
    cluster = ClusterHarness()
    thinker = cluster.framework("thinker")
    cluster.slave("cpus=1,mem=1G")
    thinker.offer()
    busy = cluster.framework("busy")
    slave = cluster.slave("cpus=1,mem=1G")
    for n in range(2500):
        busy.accept(busy.offer(), tasks=[task(f"t{n}")])
        slave.take(m.RunTasks)
        slave.finish(busy, f"t{n}")
    assert len(cluster.core.cluster.offer_order) < 1100


def test_a_scheduler_that_is_away_loses_its_offers_to_the_next() -> None:
    cluster = ClusterHarness()
    first, second = cluster.framework("first"), cluster.framework("second")
    cluster.slave()
    first.offer()
    cluster.lose_peer(first)
    second.offer()
    cluster.assert_nothing_else_sent()


# -- Limits ---------------------------------------------------------------------------------------------------------------


def limited(cpus: float, slaves: int = 1) -> tuple[ClusterHarness, FrameworkPeer]:
    """Idle slaves of four cpus, and a framework that may hold less than one of them."""
    policy = Policy(frameworks={"small": Terms(limit=Resources.of(cpus=cpus))})
    cluster = ClusterHarness(policy=policy)
    for _ in range(slaves):
        cluster.slave("cpus=4,mem=4G")
    return cluster, cluster.framework("small")


@pytest.mark.parametrize("refuse_seconds", [0.0, 1000.0])
def test_a_refusal_of_what_a_limit_has_cut_binds(refuse_seconds: float) -> None:
    cluster, small = limited(1.0)
    offer = small.offer()
    assert offer.resources == Resources.parse("cpus=1,mem=4G")
    small.decline(offer, refuse_seconds=refuse_seconds)
    cluster.assert_nothing_else_sent()
    cluster.advance(max(refuse_seconds, 1.0) - 0.01)
    cluster.assert_nothing_else_sent()
    cluster.advance(0.02)
    small.offer()


def test_a_refusal_does_not_bind_once_the_limit_leaves_more() -> None:
    cluster, small = limited(2.0)
    small.accept(small.offer(), tasks=[task("t1")])
    offer = small.offer()
    assert offer.resources == Resources.parse("cpus=1,mem=3G")
    small.decline(offer, refuse_seconds=1000.0)
    slave = next(peer for peer in cluster.peers.values() if isinstance(peer, SlavePeer))
    slave.take(m.RunTasks)
    cluster.assert_nothing_else_sent()
    other = cluster.slave("cpus=1,mem=1G")
    small.accept(small.offer(), tasks=[task("t2")])
    other.take(m.RunTasks)
    slave.finish(small, "t1")
    offers = small.offers()
    assert [offer.resources for offer in offers] == [Resources.parse("cpus=1,mem=4G")], "more memory is free"
    small.decline(*offers, refuse_seconds=1000.0)
    other.finish(small, "t2")
    assert [offer.resources for offer in small.offers()] == [Resources.parse("cpus=1,mem=1G")], (
        "it is free again"
    )
    cluster.assert_nothing_else_sent()


def test_an_idle_slave_that_was_refused_for_a_limits_sake_is_offered_when_there_is_more_room() -> None:
    cluster, small = limited(2.0, slaves=2)
    (first,) = small.offers()
    small.accept(first, tasks=[task("t1", "cpus=1,mem=4G")])
    second = small.offer()
    assert (second.resources.millicpus, second.slave_id != first.slave_id) == (1000, True)
    small.decline(second, refuse_seconds=1000.0)
    cluster.assert_nothing_sent_to(small)
    slave = next(
        p for p in cluster.peers.values() if isinstance(p, SlavePeer) and p.slave_id == first.slave_id
    )
    slave.finish(small, "t1")
    small.decline(*small.offers(), refuse_seconds=1000.0)
    assert small.offer().slave_id == second.slave_id, "two cpus are more than the one that was refused"


def test_a_filter_for_a_minimum_is_held_against_what_a_limit_leaves() -> None:
    cluster, small = limited(1.0)
    small.decline(small.offer())
    small.send(m.SetFilters(m.Filters(minimum=Resources.of(cpus=2))))
    small.send(m.ReviveOffers())
    cluster.assert_nothing_else_sent()


def test_room_under_a_limit_brings_idle_slaves_only_to_those_that_it_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many slaves are idle, the walk ends when the limit holds back everybody again."""
    cluster, small = limited(1.0, slaves=50)
    offer = small.offer()
    small.accept(offer, tasks=[task("t1", "cpus=1,mem=4G")])
    slave = next(
        p for p in cluster.peers.values() if isinstance(p, SlavePeer) and p.slave_id == offer.slave_id
    )
    asked = 0
    has_room = Entitlements.has_room

    def counted(entitlements: Entitlements, *which: Any) -> bool:
        nonlocal asked
        asked += 1
        return has_room(entitlements, *which)

    monkeypatch.setattr(Entitlements, "has_room", counted)
    slave.finish(small, "t1")
    assert small.offer().resources.millicpus == 1000
    assert asked < 10
