"""How long a framework has been under its share, and why: the answers for `offerd explain`."""

from __future__ import annotations

from typing import Any

from helpers.master_harness import ClusterHarness, task
from offerd import messages as m
from offerd import operator_messages as om
from offerd.ids import FrameworkID, SlaveID
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy, Terms


def explained(cluster: ClusterHarness, name: str = "poor") -> om.Explanation:
    operator = cluster.operator()
    operator.send(om.ExplainFramework(name))
    return operator.take(om.Explanation)


def causes(cluster: ClusterHarness, name: str = "poor") -> dict[str, int]:
    return {cause.why: cause.slaves for cause in explained(cluster, name).causes}


def with_a_rich_framework(**settings: Any) -> ClusterHarness:
    """One slave, completely held by a framework called rich."""
    cluster = ClusterHarness(**settings)
    cluster.slave("cpus=4,mem=4G")
    rich = cluster.framework("rich")
    rich.accept(rich.offer(), tasks=[task("t1", "cpus=4,mem=4G")])
    return cluster


def test_how_long_it_has_been_under_its_share() -> None:
    cluster = with_a_rich_framework()
    poor = cluster.framework("poor")
    cluster.advance(20.0)
    found = explained(cluster)
    assert (found.share, found.fair_share) == (0.0, 0.5)
    assert found.under_share_s is not None
    assert 15.0 <= found.under_share_s <= 20.0, "to within a round of pings"
    assert [(cause.why, cause.slaves) for cause in found.causes] == [("in_use", 1)]
    assert explained(cluster, "rich").under_share_s is None
    poor.send(m.SetNeedsOffers(False))
    cluster.advance(5.0)
    found = explained(cluster)
    assert (found.under_share_s, found.needs_offers) == (None, False)
    poor.send(m.SetNeedsOffers(True))
    assert explained(cluster).under_share_s == 0.0, "it begins anew"


def test_slaves_with_a_full_disk_are_counted_as_such() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave()
    slave.send(m.SlaveUsage(0, 0, disk_full=True))
    cluster.framework("poor")
    assert causes(cluster) == {"disk_full": 1}
    operator = cluster.operator()
    operator.send(om.ExplainWaiting(FrameworkID(""), Resources.parse("cpus=1,mem=1M")))
    assert operator.take(om.Waiting).why == "disk_full"


def test_status_shows_which_frameworks_are_under_their_share() -> None:
    cluster = with_a_rich_framework()
    cluster.framework("poor")
    cluster.advance(11.0)
    operator = cluster.operator()
    operator.send(om.GetFrameworks())
    under = {f.name: f.under_share_s is not None for f in operator.take(om.Frameworks).frameworks}
    assert under == {"rich": False, "poor": True}


def test_every_slave_is_counted_under_what_keeps_it_from_the_framework() -> None:
    policy = Policy(frameworks={"poor": Terms(limit=Resources.of(cpus=100))})
    cluster = ClusterHarness(policy=policy, minimum_offer=Resources.of(cpus=1))
    poor = cluster.framework("poor")
    other = cluster.framework("other")
    other.send(m.SetNeedsOffers(False))
    assert causes(cluster) == {}
    cluster.slave("cpus=4,mem=4G")
    assert causes(cluster) == {"offered": 1}
    poor.decline(poor.offer(), refuse_seconds=1000.0)
    assert causes(cluster) == {"no_offer_fits": 1}
    other.send(m.SetNeedsOffers(True))
    other.accept(other.offer(), tasks=[task("t1", "cpus=3.5,mem=1G")], refuse_seconds=0.0)
    assert causes(cluster) == {"minimum_offer_not_free": 1}
    cluster.slave("cpus=2,mem=2G", attributes={"old": "yes"})
    poor.decline(poor.offer(), refuse_seconds=1000.0)
    assert causes(cluster) == {"minimum_offer_not_free": 1, "offered_to_others": 1}
    poor.send(m.SetFilters(m.Filters(attributes={"old": "no"})))
    assert causes(cluster) == {"filtered": 2}


def test_a_full_part_for_long_tasks_is_named() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=4,mem=4G")
    other = cluster.framework("other")
    other.accept(other.offer(), tasks=[task("t1", "cpus=2,mem=2G", time_limit_s=None)])
    other.send(m.SetNeedsOffers(False))
    other.decline(*other.offers())
    poor = cluster.framework("poor")
    poor.decline(poor.offer(), refuse_seconds=1000.0)
    assert causes(cluster) == {"long_task_cap_reached": 1}


def test_a_limit_and_filters_that_ask_for_more_than_is_free_are_named() -> None:
    cluster = ClusterHarness(policy=Policy({"small": Terms(limit=Resources.of(cpus=1))}))
    poor = cluster.framework("poor", role="small")
    cluster.slave("cpus=4,mem=4G")
    poor.accept(poor.offer(), tasks=[task("t1", "cpus=1,mem=1G")])
    assert causes(cluster) == {"limit_reached": 1}
    assert explained(cluster).limit_room == {"cpus": 0}
    poor.send(m.SetFilters(m.Filters(minimum=Resources.of(cpus=4))))
    assert causes(cluster) == {"filters_ask_for_more": 1}


def test_a_guarantee_is_shown_with_what_is_revoked_for_it() -> None:
    policy = Policy(frameworks={"poor": Terms(guarantee=Resources.of(cpus=2))})
    cluster = with_a_rich_framework(policy=policy)
    cluster.framework("poor")
    cluster.advance(8.0)
    found = explained(cluster)
    assert found.guaranteed == Resources.of(cpus=2)
    assert found.under_guarantee_s is not None
    assert found.under_guarantee_s >= 5.0
    assert (found.revoking, explained(cluster, "rich").being_revoked) == (1, 1)


def test_a_framework_is_named_by_id_or_by_an_unambiguous_name() -> None:
    cluster = ClusterHarness()
    first = cluster.framework("poor")
    assert explained(cluster, first.framework_id).name == "poor"
    cluster.framework("poor")
    assert explained(cluster).problem.startswith("several frameworks are called poor: F-a-0001, F-a-0002")
    assert (
        explained(cluster, "nobody").problem
        == "no framework nobody is registered; `offerd frameworks` lists them"
    )


def test_the_part_for_long_tasks_is_full_where_one_resource_of_it_is() -> None:
    cluster = ClusterHarness()
    cluster.slave("cpus=4,mem=4G")
    other = cluster.framework("other")
    other.accept(other.offer(), tasks=[task("t1", "cpus=2,mem=1G", time_limit_s=None)])
    other.send(m.SetNeedsOffers(False))
    other.decline(*other.offers())
    poor = cluster.framework("poor")
    poor.decline(poor.offer(), refuse_seconds=1000.0)
    assert causes(cluster) == {"long_task_cap_reached": 1}, "memory is left, but no cpu"


def test_a_framework_without_a_scheduler_is_not_promised_an_offer() -> None:
    cluster = ClusterHarness()
    poor = cluster.framework("poor", failover_timeout_s=600.0)
    cluster.slave("cpus=4,mem=4G")
    cluster.lose_peer(poor)
    assert causes(cluster) == {"no_scheduler": 1}


def test_a_refused_offer_that_a_limit_had_cut_is_not_announced_again() -> None:
    cluster = ClusterHarness(policy=Policy(frameworks={"poor": Terms(limit=Resources.of(cpus=1))}))
    cluster.slave("cpus=4,mem=4G")
    poor = cluster.framework("poor")
    poor.decline(poor.offer(), refuse_seconds=1000.0)
    assert causes(cluster) == {"no_offer_fits": 1}
    poor.send(m.SetFilters(m.Filters(minimum=Resources.of(cpus=2))))
    assert causes(cluster) == {"limit_reached": 1}


def test_the_reasons_for_unresponsive_schedulers_and_slaves_are_true() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=4,mem=4G")
    poor = cluster.framework("poor", failover_timeout_s=600.0)
    poor.answers_pings = False
    poor.send(m.RegisterFramework(cluster.again(poor).info))
    poor.decline(*poor.offers(), refuse_seconds=0.0)
    assert causes(cluster) == {"offered": 1}, "a message is a sign of life"
    poor.send(m.RegisterFramework(cluster.again(poor).info))
    assert causes(cluster) == {"scheduler_unresponsive": 1}
    slave.answers_pings = False
    slave.send(m.RegisterSlave(slave.info, [], []))
    assert causes(cluster) == {"unreachable": 1}
    operator = cluster.operator()
    operator.send(om.ExplainWaiting(poor.framework_id, Resources.parse("cpus=1,mem=1M")))
    answer = operator.take(om.Waiting)
    assert (answer.why, "unresponsive" in answer.message) == ("no_slaves", True)


def test_a_new_master_that_holds_offers_back_promises_none() -> None:
    cluster = ClusterHarness(recovery_quiet_s=5.0)
    poor = cluster.framework("poor")
    slave = cluster.slave("cpus=4,mem=4G", registers=False)
    slave.info = m.SlaveInfo("host", slave.info.resources, SlaveID("S-9-0001"))
    slave.register()
    assert causes(cluster) == {"offers_held_back": 1}
    operator = cluster.operator()
    operator.send(om.ExplainWaiting(poor.framework_id, Resources.parse("cpus=1,mem=1M")))
    assert operator.take(om.Waiting).why == "offers_held_back"
    cluster.advance(6.0)
    assert causes(cluster) == {"offered": 1}


def test_a_framework_that_has_ended_is_promised_no_offer() -> None:
    cluster = ClusterHarness()
    slave = cluster.slave("cpus=4,mem=4G")
    poor = cluster.framework("poor")
    poor.accept(poor.offer(), tasks=[task("t1")])
    poor.send(m.TeardownFramework())
    assert slave.inbox
    found = explained(cluster, poor.framework_id)
    assert (found.state, [cause.why for cause in found.causes]) == ("ended", ["ended"])


def test_what_became_free_beside_an_open_offer_will_be_offered() -> None:
    cluster = ClusterHarness(batch_window_s=0.5)
    slave = cluster.slave("cpus=4,mem=4G")
    poor = cluster.framework("poor")
    poor.accept(poor.offer(), tasks=[task("t1"), task("t2")])
    cluster.advance(0.7)
    poor.offer()
    assert causes(cluster) == {"offered": 1}
    slave.finish(poor, "t1")
    assert causes(cluster) == {"not_yet": 1}
    cluster.advance(0.5)
    assert poor.offer().resources == Resources.of(cpus=1, mem="1G")
    assert causes(cluster) == {"offered": 1}
