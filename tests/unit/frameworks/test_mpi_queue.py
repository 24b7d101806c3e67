"""The queue of gangs: which offers are held and for how long, what starts, and how a job ends."""

from __future__ import annotations

from typing import TypeVar

import pytest

import offerd
from offerd.ids import OfferID, SlaveID, TaskID
from offerd.messages import Reason
from offerd.operator_messages import Waiting
from offerd_frameworks.mpi.core import actions as a
from offerd_frameworks.mpi.core import events as e
from offerd_frameworks.mpi.core.attempt import AFTERWARDS_S, ARRIVE_S, GRACE_S, KILL_AFTER_S, LAST_WORDS_S
from offerd_frameworks.mpi.core.gang import assemble
from offerd_frameworks.mpi.core.job import Job, Outcome
from offerd_frameworks.mpi.core.queue import ASK_WHY_AFTER_S, FIRST_PAUSE_S, GangQueue

NEED = offerd.Resources.of(cpus=1, mem="64M")
HOLD_S = 5.0

A = TypeVar("A", bound=a.Action)


def job(ranks: int = 4, name: str = "job", **more: object) -> Job:
    return Job(name, ("./program",), ranks, NEED, **{"time_limit_s": 30.0, **more})  # type: ignore[arg-type]


def offer(slave: int, slots: int, name: str = "", long_slots: int | None = None) -> offerd.Offer:
    """An offer of a slave with room for so many ranks if they have a time limit."""
    resources = offerd.Resources.of(cpus=slots, mem="8G")
    long = {"cpus": (slots if long_slots is None else long_slots) * 1000, "mem": resources.mem_bytes}
    return offerd.Offer(
        OfferID(name or f"o{slave}"), SlaveID(f"s{slave}"), f"slave-{slave}", resources, long, 60.0
    )


def status(task_id: str, state: offerd.TaskState, reason: str = "", message: str = "") -> offerd.TaskStatus:
    return offerd.TaskStatus(TaskID(task_id), state, 1, reason=reason, message=message)


class Queue:
    """A queue that knows its guarantee, and all its actions so far."""

    def __init__(self, guarantee: offerd.Resources | None = None) -> None:
        self.core = GangQueue(lambda: 0.5, HOLD_S)
        self.done: list[a.Action] = []
        self.now = 0.0
        self(e.GuaranteeKnown(guarantee or offerd.Resources()))

    def __call__(self, *events: e.Event, at: float | None = None) -> list[a.Action]:
        """Give it the event; returns its actions."""
        self.now = self.now if at is None else at
        actions = [action for event in events for action in self.core.handle(event, self.now)]
        self.done += actions
        return actions

    def tick(self, at: float) -> list[a.Action]:
        self.now = at
        actions = self.core.tick(at)
        self.done += actions
        return actions

    def run(self, wanted: Job, slots: int = 4) -> list[str]:
        """Submit, offer one slave that holds the gang, and connect the proxies; returns the tasks' ids."""
        self(e.Submitted(wanted), e.OffersCame([offer(1, slots)]))
        (start,) = of_kind(a.StartHydra, self.done[-10:])[-1:]
        launch = of_kind(a.LaunchProxies, self(e.HydraReady(start.attempt_id)))[0]
        self(e.ProxiesConnected(start.attempt_id, len(launch.shares)))
        return list(launch.task_ids)


def of_kind(kind: type[A], actions: list[a.Action]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def when(queue: Queue, kind: type[a.Action]) -> float:
    """The time at which a tick returns an action of this kind."""
    while not of_kind(kind, queue.tick(queue.core.next_deadline())):
        pass
    return queue.now


def outcome(queue: Queue) -> Outcome:
    (ended,) = of_kind(a.JobEnded, queue.done)
    return ended.outcome


# -- gangs ------------------------------------------------------------------------------------------------------------


def test_a_gang_fills_the_largest_slaves_first() -> None:
    gang = assemble(job(5), [offer(1, 1), offer(2, 3), offer(3, 2)])
    assert [(share.hostname, share.ranks) for share in gang.shares] == [("slave-2", 3), ("slave-3", 2)]
    assert gang.missing == 0


def test_per_slave_spreads_the_ranks() -> None:
    gang = assemble(job(3, per_slave=1), [offer(1, 4), offer(2, 4), offer(3, 4)])
    assert [share.ranks for share in gang.shares] == [1, 1, 1]


def test_a_job_without_a_limit_may_only_have_the_part_for_long_tasks() -> None:
    offers = [offer(1, 4, long_slots=2), offer(2, 4, long_slots=1)]
    assert assemble(job(4, time_limit_s=None), offers).missing == 1
    assert assemble(job(4, time_limit_s=61.0), offers).missing == 1
    assert assemble(job(4, time_limit_s=60.0), offers).missing == 0


def test_several_offers_of_one_slave_make_one_share() -> None:
    gang = assemble(job(4), [offer(1, 2, "first"), offer(1, 2, "second")])
    assert [(share.ranks, share.offer_ids) for share in gang.shares] == [(4, ("first", "second"))]


# -- holding and giving back ------------------------------------------------------------------------------------------


def test_offers_are_asked_for_while_a_job_waits_and_not_when_the_queue_is_empty() -> None:
    queue = Queue()
    assert queue(e.Submitted(job(1))) == [a.AskForOffers(True)]
    actions = queue(e.OffersCame([offer(1, 1), offer(2, 1)]))
    assert of_kind(a.DeclineOffers, actions) == [a.DeclineOffers((OfferID("o2"),), 0.0)]
    assert actions[-1] == a.AskForOffers(False)


def test_the_reason_why_the_first_job_waits_is_asked_for_and_reported_once() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)), e.Submitted(job(4, "next")))
    assert queue.core.next_deadline() == 1.0
    assert of_kind(a.AskWhy, queue.tick(0.9)) == []
    assert of_kind(a.AskWhy, queue.tick(1.0)) == [a.AskWhy(job(4))]
    capped, busy = Waiting("long_task_cap", "room for 3 of 4", 60.0), Waiting("others_share", "in use")
    assert queue(e.WhyCame("job", Waiting("not_yet", "soon"))) == []
    assert queue(e.WhyCame("job", capped)) == [a.ReportWaiting("job", capped)]
    assert queue(e.WhyCame("job", capped)) == []
    assert queue(e.WhyCame("job", busy)) == [a.ReportWaiting("job", busy)]
    assert queue(e.WhyCame("next", busy)) == [], "it waits for the first"
    assert of_kind(a.AskWhy, queue.tick(6.0)) == [a.AskWhy(job(4))]


def test_a_pause_that_the_gang_chose_is_not_a_reason() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)))
    for why in ("not_yet", "refused", "wants_nothing", "offers_held_back"):
        assert queue(e.WhyCame("job", Waiting(why, "soon"))) == []


def test_what_a_gang_held_is_not_reported_while_the_masters_reason_stands() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)))
    reported = []
    answers = [Waiting("long_task_cap", "room for 2 of 4: ...", 60.0), Waiting("not_yet", "soon")]
    for round, answer in enumerate(answers):
        start = 100.0 * round
        queue.tick(start)
        queue(e.OffersCame([offer(1, 2, f"o{round}")]), e.WhyCame("job", answer), at=start)
        reported.append([note.text[:21] for note in of_kind(a.Note, queue.tick(start + HOLD_S))])
    assert reported == [[], ["room for 2 of 4 ranks"]]


def test_a_job_that_waits_for_the_guaranteed_share_says_so() -> None:
    queue = Queue(guarantee=offerd.Resources.of(cpus=4))
    queue.run(job(4))
    queue(e.Submitted(job(2, "next")))
    (reported,) = of_kind(a.ReportWaiting, queue.tick(1.0))
    assert (reported.job_id, reported.waiting.why) == ("next", "guaranteed_share")
    assert of_kind(a.AskWhy, queue.done) == []


def test_what_a_gang_held_is_reported_again_only_if_it_changed() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)))
    reported = []
    for round, slots in enumerate((2, 2, 3)):
        start = 100.0 * round
        queue.tick(start)
        queue(e.OffersCame([offer(1, slots, f"o{round}")]), at=start)
        reported += [note.text[:15] for note in of_kind(a.Note, queue.tick(start + HOLD_S))]
    assert reported == ["room for 2 of 4", "room for 3 of 4"]


def test_a_part_of_a_gang_is_held_and_completed() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)))
    assert queue(e.OffersCame([offer(1, 2)])) == []
    start = of_kind(a.StartHydra, queue(e.OffersCame([offer(2, 2)]), at=3.0))[0]
    assert sum(share.ranks for share in start.shares) == 4


def test_a_part_that_does_not_grow_is_given_back_after_the_hold_time_and_asked_for_again_after_a_pause() -> (
    None
):
    queue = Queue()
    queue(e.Submitted(job(4)), e.OffersCame([offer(1, 2)]))
    assert of_kind(a.DeclineOffers, queue.tick(ASK_WHY_AFTER_S)) == []
    assert queue.core.next_deadline() == HOLD_S
    actions = queue.tick(HOLD_S)
    assert actions[0] == a.DeclineOffers((OfferID("o1"),), 0.0)
    assert "room for 2 of 4 ranks" in of_kind(a.Note, actions)[0].text
    assert actions[-1] == a.AskForOffers(False)
    until = queue.core.next_deadline()
    assert HOLD_S < until <= HOLD_S + FIRST_PAUSE_S
    assert queue.tick(until) == [a.AskForOffers(True)]


def test_progress_prolongs_the_hold() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)), e.OffersCame([offer(1, 2)]))
    queue(e.OffersCame([offer(2, 1)]), at=4.0)
    assert of_kind(a.DeclineOffers, queue.tick(6.0)) == []
    assert of_kind(a.DeclineOffers, queue.tick(9.0))


def test_pauses_grow_while_a_gang_cannot_be_completed() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)))
    pauses = []
    for _ in range(4):
        queue(e.OffersCame([offer(1, 2)]))
        given_back = when(queue, a.DeclineOffers)
        pauses.append(when(queue, a.AskForOffers) - given_back)
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]


def test_an_offer_that_lacks_something_completely_is_not_held() -> None:
    queue = Queue()
    queue(e.Submitted(job(2, time_limit_s=None)))
    actions = queue(e.OffersCame([offer(1, 4, long_slots=0), offer(2, 1)]))
    assert [action.offer_ids for action in of_kind(a.DeclineOffers, actions)] == [("o1",)]


def test_more_of_a_slave_than_its_ranks_take_is_not_held() -> None:
    queue = Queue()
    queue(e.Submitted(job(3, per_slave=1)))
    actions = queue(e.OffersCame([offer(1, 1, "first"), offer(1, 1, "second"), offer(2, 1)]))
    assert [action.offer_ids for action in of_kind(a.DeclineOffers, actions)] == [("second",)]
    (start,) = of_kind(a.StartHydra, queue(e.OffersCame([offer(3, 1)])))
    assert [share.offer_ids for share in start.shares] == [("first",), ("o2",), ("o3",)]


def test_parts_of_a_slave_that_become_free_one_after_another_make_room_for_a_rank() -> None:
    queue = Queue()
    half = offerd.Resources.of(cpus="0.5", mem="1G")
    parts = [
        offerd.Offer(OfferID(f"p{number}"), SlaveID("s1"), "slave-1", half, short_limit_s=60.0)
        for number in range(2)
    ]
    assert queue(e.Submitted(job(1)), e.OffersCame(parts[:1])) == [a.AskForOffers(True)]
    (start,) = of_kind(a.StartHydra, queue(e.OffersCame(parts[1:])))
    assert start.shares[0].offer_ids == ("p0", "p1")


def test_a_rescinded_offer_is_not_counted_on() -> None:
    queue = Queue()
    queue(e.Submitted(job(4)), e.OffersCame([offer(1, 2)]), e.OfferRescinded(OfferID("o1")))
    assert of_kind(a.StartHydra, queue(e.OffersCame([offer(2, 2)]))) == []


def test_jobs_start_in_order_and_side_by_side() -> None:
    queue = Queue()
    queue(e.Submitted(job(2, "first")), e.Submitted(job(1, "second")))
    starts = of_kind(a.StartHydra, queue(e.OffersCame([offer(1, 2), offer(2, 1)])))
    assert [start.job.job_id for start in starts] == ["first", "second"]


# -- the guaranteed share ---------------------------------------------------------------------------------------------


def test_nothing_starts_before_the_guarantee_is_known() -> None:
    core = GangQueue(lambda: 0.5)
    actions = [
        *core.handle(e.Submitted(job(1)), 0.0),
        *core.handle(e.OffersCame([offer(1, 4)]), 0.0),
    ]
    assert actions == [a.AskForOffers(True)]
    assert of_kind(a.StartHydra, core.handle(e.GuaranteeKnown(offerd.Resources()), 0.1))


def test_a_job_beyond_the_guarantee_is_refused_with_both_amounts() -> None:
    queue = Queue(offerd.Resources.of(cpus=3))
    queue(e.Submitted(job(4)))
    assert outcome(queue).exit_status == 2
    assert "cpus=4" in outcome(queue).reason
    assert "cpus=3" in outcome(queue).reason


def test_running_jobs_together_never_exceed_the_guarantee() -> None:
    queue = Queue(offerd.Resources.of(cpus=5))
    task_ids = queue.run(job(4, "first"))
    assert a.AskForOffers(True) not in queue(e.Submitted(job(2, "second")))
    assert of_kind(a.StartHydra, queue(e.OffersCame([offer(2, 4)]))) == []
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.FINISHED)))
    assert a.AskForOffers(True) in queue(e.HydraEnded("first", 0, ""))


# -- how jobs end -----------------------------------------------------------------------------------------------------


def test_a_job_has_ended_when_the_process_manager_and_all_proxies_have() -> None:
    queue = Queue()
    task_ids = queue.run(job())
    queue(e.HydraEnded("job", 0, ""), at=2.0)
    assert of_kind(a.JobEnded, queue.done) == []
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.FINISHED)), at=2.1)
    assert outcome(queue) == Outcome(0, "", 0.0, 2.1, ("slave-1:4",))
    assert queue.core.is_empty


def test_a_dead_rank_ends_the_job_with_its_status_even_if_the_process_manager_waits_on() -> None:
    queue = Queue()
    task_ids = queue.run(job())
    queue(e.RankDied("job", 2, 5), e.RankDied("job", 3, 15), at=1.0)
    assert of_kind(a.KillTasks, [*queue.tick(1.9), *queue(e.RankSilent("job", 3), at=1.9)]) == []
    actions = queue(e.RankSilent("job", 2), at=2.0)
    assert of_kind(a.KillTasks, actions) == [a.KillTasks((TaskID(task_ids[0]),), GRACE_S)]
    (kill,) = of_kind(a.KillHydra, queue.tick(2.0 + KILL_AFTER_S))
    queue(e.HydraEnded(kill.attempt_id, 137, ""))
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.KILLED)))
    assert (outcome(queue).exit_status, outcome(queue).reason) == (5, "rank 2 exited with status 5")


def test_a_dead_rank_whose_output_does_not_end_ends_the_job_a_minute_later() -> None:
    queue = Queue()
    queue.run(job())
    queue(e.RankDied("job", 2, 5), e.OutputCame("job"), at=1.0)
    assert of_kind(a.KillTasks, queue.tick(LAST_WORDS_S)) == []
    assert of_kind(a.KillTasks, queue.tick(1.0 + LAST_WORDS_S))


def test_the_output_of_a_rank_that_dies_before_all_proxies_connect_is_waited_for() -> None:
    queue = Queue()
    queue(e.Submitted(job()), e.OffersCame([offer(1, 4)]), e.HydraReady("job"))
    actions = queue(e.RankDied("job", 2, 5), e.RankSilent("job", 2))
    assert of_kind(a.KillTasks, actions)
    assert of_kind(a.KillHydra, actions) == []


def test_output_that_still_comes_when_all_proxies_have_ended_is_waited_for() -> None:
    queue = Queue()
    (task_id,) = queue.run(job())
    assert not queue.core.is_ending("job")
    queue(e.StatusCame(status(task_id, offerd.TaskState.FINISHED)), at=1.0)
    for at in range(2, 200):
        assert queue.core.is_ending("job")
        queue(e.OutputCame("job"), at=float(at))
        assert queue.tick(float(at)) == []
    queue.tick(199.0 + AFTERWARDS_S)
    assert of_kind(a.KillHydra, queue.tick(199.0 + AFTERWARDS_S + KILL_AFTER_S))


def test_a_process_manager_that_stays_when_all_tasks_have_been_ended_is_killed_soon() -> None:
    queue = Queue()
    (task_id,) = queue.run(job())
    queue(e.Cancelled("job", 130), at=1.0)
    queue(e.StatusCame(status(task_id, offerd.TaskState.KILLED)), at=2.0)
    assert of_kind(a.KillHydra, queue.tick(1.9 + AFTERWARDS_S)) == []
    assert of_kind(a.KillHydra, queue.tick(2.0 + AFTERWARDS_S))


def test_output_of_ranks_that_are_being_ended_is_waited_for_but_not_for_ever() -> None:
    queue = Queue()
    queue.run(job())
    queue(e.Cancelled("job", 130), at=1.0)
    for at in range(2, int(LAST_WORDS_S)):
        assert of_kind(a.KillHydra, [*queue(e.OutputCame("job"), at=float(at)), *queue.tick(float(at))]) == []
    queue(e.OutputCame("job"), at=LAST_WORDS_S + 0.5)
    assert of_kind(a.KillHydra, queue.tick(1.0 + LAST_WORDS_S))


@pytest.mark.parametrize(
    ("exit_status", "unheard", "said"),
    [
        (0, (3,), (1, "what rank 3 wrote last may be missing")),
        (9, (0, 2), (9, "aborted with status 9; what ranks 0 and 2 wrote last may be missing")),
        (9, (0, 1, 2, 3), (9, "aborted with status 9; what the ranks wrote last may be missing")),
    ],
)
def test_a_rank_whose_output_has_not_come_to_its_end_is_named(
    exit_status: int, unheard: tuple[int, ...], said: tuple[int, str]
) -> None:
    queue = Queue()
    (task_id,) = queue.run(job())
    queue(e.HydraEnded("job", exit_status, "", unheard))
    queue(e.StatusCame(status(task_id, offerd.TaskState.FINISHED)))
    assert (outcome(queue).exit_status, outcome(queue).reason) == said


def test_ranks_ended_by_their_slave_leave_the_reason_to_the_slave() -> None:
    queue = Queue()
    (task_id,) = queue.run(job())
    queue(e.RankDied("job", 2, 143, was_asked=True), e.RankSilent("job", 2))
    limit = status(task_id, offerd.TaskState.KILLED, Reason.TASK_TIMEOUT, "its limit")
    queue(e.HydraEnded("job", 143, ""), e.StatusCame(limit))
    assert (outcome(queue).exit_status, outcome(queue).reason) == (124, "slave-1: TASK_TIMEOUT: its limit")


def test_a_rank_that_nobody_else_asked_to_end_is_the_cause() -> None:
    queue = Queue()
    (task_id,) = queue.run(job())
    queue(e.RankDied("job", 2, 143, was_asked=True), e.RankSilent("job", 2))
    queue(e.HydraEnded("job", 143, ""), e.StatusCame(status(task_id, offerd.TaskState.KILLED)))
    assert (outcome(queue).exit_status, outcome(queue).reason) == (143, "rank 2 was ended by signal 15")


def test_a_proxy_that_never_arrives_ends_the_job_and_the_process_manager_is_killed_at_once() -> None:
    queue = Queue()
    queue(e.Submitted(job()), e.OffersCame([offer(1, 4)]), e.HydraReady("job"))
    assert queue.tick(ARRIVE_S - 1) == []
    actions = queue.tick(ARRIVE_S)
    assert of_kind(a.KillTasks, actions)
    assert of_kind(a.KillHydra, actions)
    queue(e.HydraEnded("job", 137, ""), e.StatusCame(status("job.1", offerd.TaskState.KILLED)))
    assert "slave-1" in outcome(queue).reason
    assert "60 s" in outcome(queue).reason


def test_a_proxy_whose_ranks_were_quick_is_not_waited_for() -> None:
    queue = Queue()
    queue(e.Submitted(job()), e.OffersCame([offer(1, 2), offer(2, 2)]), e.HydraReady("job"))
    queue(e.StatusCame(status("job.1", offerd.TaskState.FINISHED)), e.ProxiesConnected("job", 1))
    assert not queue.core.awaits_proxies("job")
    assert queue.tick(ARRIVE_S) == []


@pytest.mark.parametrize("resubmits", [0, 1])
def test_a_lost_slave_ends_the_attempt_and_the_job_begins_anew_if_asked(resubmits: int) -> None:
    queue = Queue()
    task_ids = queue.run(job(resubmits=resubmits))
    queue(e.SlaveLost(SlaveID("s1")))
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.LOST, Reason.SLAVE_LOST)))
    actions = queue(e.HydraEnded("job", 255, ""))
    if not resubmits:
        assert "slave-1 was lost" in outcome(queue).reason
        return
    assert "submitted again (1 of 1)" in of_kind(a.Note, actions)[0].text
    assert a.AskForOffers(True) in actions
    start = of_kind(a.StartHydra, queue(e.OffersCame([offer(2, 4)])))[0]
    assert start.attempt_id == "job.again1"


def test_a_slave_lost_after_the_process_manager_noticed_its_link_is_a_lost_slave() -> None:
    queue = Queue()
    task_ids = queue.run(job(resubmits=1))
    queue(e.HydraEnded("job", 255, "control_cb: assert (!closed) failed"))
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.LOST, Reason.SLAVE_LOST)))
    assert of_kind(a.JobEnded, queue.done) == []
    assert not queue.core.is_empty


def test_an_offer_overtaken_on_its_way_costs_no_resubmission() -> None:
    queue = Queue()
    queue(e.Submitted(job()), e.OffersCame([offer(1, 4)]), e.HydraReady("job"))
    lost = status("job.1", offerd.TaskState.LOST, Reason.OFFER_INVALID)
    assert of_kind(a.KillHydra, queue(e.StatusCame(lost)))
    queue(e.HydraEnded("job", 137, ""))
    assert of_kind(a.JobEnded, queue.done) == []
    queue.tick(queue.core.next_deadline())
    assert of_kind(a.StartHydra, queue(e.OffersCame([offer(1, 4, "o9")])))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_time_limit_is_124_whether_the_status_or_the_process_manager_comes_first(is_first: bool) -> None:
    queue = Queue()
    task_ids = queue.run(job())
    limit = e.StatusCame(status(task_ids[0], offerd.TaskState.KILLED, Reason.TASK_TIMEOUT, "its limit"))
    ended = e.HydraEnded("job", 15, "")
    queue(*((limit, ended) if is_first else (ended, limit)))
    assert outcome(queue).exit_status == 124
    assert "TASK_TIMEOUT" in outcome(queue).reason


def test_a_task_killed_for_lingering_after_a_good_end_does_not_spoil_it() -> None:
    queue = Queue()
    task_ids = queue.run(job())
    queue(e.HydraEnded("job", 0, ""), at=1.0)
    assert of_kind(a.KillTasks, queue.tick(1.0 + AFTERWARDS_S))
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.KILLED)))
    assert outcome(queue).exit_status == 0


def test_a_process_manager_that_cannot_be_started_ends_the_job_and_gives_the_offers_back() -> None:
    queue = Queue()
    queue(e.Submitted(job()), e.OffersCame([offer(1, 4)]))
    actions = queue(e.HydraEnded("job", 1, "mpiexec.hydra is not installed here"))
    assert of_kind(a.DeclineOffers, actions) == [a.DeclineOffers((OfferID("o1"),), 0.0)]
    assert "not installed" in outcome(queue).reason


def test_a_waiting_job_is_cancelled_and_its_offers_are_given_back() -> None:
    queue = Queue()
    queue(e.Submitted(job()), e.OffersCame([offer(1, 2)]))
    actions = queue(e.Cancelled("job", 130))
    assert outcome(queue).exit_status == 130
    assert of_kind(a.DeclineOffers, actions)


def test_a_running_job_that_is_cancelled_is_over_when_nothing_of_it_is_left() -> None:
    queue = Queue()
    task_ids = queue.run(job())
    assert of_kind(a.KillTasks, queue(e.Cancelled("job", 130)))
    queue(e.HydraEnded("job", 255, ""))
    assert of_kind(a.JobEnded, queue.done) == []
    queue(e.StatusCame(status(task_ids[0], offerd.TaskState.KILLED)))
    assert (outcome(queue).exit_status, outcome(queue).reason) == (130, "cancelled")
