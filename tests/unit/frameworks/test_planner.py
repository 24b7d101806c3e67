"""The planner: what is launched where and when, and what is done again."""

from __future__ import annotations

from typing import Any

from offerd import Resources
from offerd_frameworks.mapreduce.planner import AVOID_S, MAX_LOSSES, MAX_UNFETCHED, Planner, Room
from offerd_frameworks.mapreduce.splits import Piece, Place, Split
from offerd_frameworks.mapreduce.work import Attempt, Kind, Phase, Rules

CPU = Resources.of(cpus=1, mem="256M")


def room(slave: str, cpus: int = 1, long_cpus: int | None = None) -> Room:
    free = Resources.of(cpus=cpus, mem="8G")
    long_free = {"cpus": (cpus if long_cpus is None else long_cpus) * 1000, "mem": 4 << 30}
    return Room(slave, slave, f"{slave}:5051", free, long_free, 60.0)


def split(*slaves: str) -> Split:
    block = "set/block-0" if slaves else ""
    return Split((Piece("f", 0, 100, 0),), block, tuple(Place(slave, f"{slave}:5051") for slave in slaves))


def rules(reduces: int = 1, **more: Any) -> Rules:
    return Rules(**{"resources": CPU, "reduces": reduces, "speculate": False, **more})


class Site:
    """A planner and a clock; it finishes what it has launched when a test says so."""

    def __init__(self) -> None:
        self.planner = Planner()
        self.now = 100.0

    def submit(self, job: str, splits: list[Split], wanted: Rules) -> None:
        self.planner.submit(job, wanted, splits, self.now)

    def offer(self, slave: str, cpus: int = 1) -> list[Attempt]:
        launched = self.planner.fill(room(slave, cpus), self.now)
        for attempt in launched:
            self.planner.started(attempt.task_id, f"c-{attempt.slave_id}", self.now)
        return launched

    def succeed(self, attempt: Attempt, **report: Any) -> list[str]:
        content = {"output_bytes": 10, "samples": [["k", 10]], "ended_s": self.now, **report}
        return self.planner.succeeded(attempt.task_id, f"c-{attempt.slave_id}", content, self.now)

    def save(self, job: str, part: int) -> list[str]:
        work = self.planner.jobs[job].reduces[part]
        assert work.output is not None
        return self.planner.saved(job, work, work.output, self.now)

    def lose_result(self, job: str, part: int) -> list[str]:
        work = self.planner.jobs[job].reduces[part]
        assert work.output is not None
        why = "s1:5051 does not answer"
        return self.planner.result_lost(job, work, work.output.task_id, why, self.now)


def names(attempts: list[Attempt]) -> list[str]:
    return [attempt.task_id for attempt in attempts]


def test_local_maps_are_launched_at_once_and_others_after_the_wait() -> None:
    site = Site()
    site.submit("j", [split("s1"), split("s2")], rules(delay_s=5.0))
    assert names(site.offer("s2", 2)) == ["j.m00001.0"]
    assert site.offer("s2") == []
    site.now += 4.9
    assert site.offer("s3") == []
    site.now += 0.1
    (late,) = site.offer("s3")
    assert (late.task_id, late.is_local) == ("j.m00000.0", False)


def test_a_local_launch_begins_the_wait_anew_and_one_elsewhere_does_not() -> None:
    site = Site()
    site.submit("j", [split("s1"), split("s1"), split("s9"), split("s9"), split("s9")], rules(delay_s=5.0))
    assert site.offer("s2") == []
    site.now += 5.0
    assert names(site.offer("s2")) == ["j.m00000.0"]
    assert names(site.offer("s2")) == ["j.m00001.0"]  # the wait is over until something local turns up
    assert names(site.offer("s9")) == ["j.m00002.0"]
    assert site.offer("s2") == []
    assert site.planner.refusal_s(site.now) == 1.0
    site.now += 4.5
    assert site.planner.refusal_s(site.now) == 0.5


def test_a_local_offer_without_room_for_so_long_a_task_does_not_begin_the_wait_anew() -> None:
    site = Site()
    site.submit("j", [split("s1")], rules(delay_s=5.0, time_limit_s=100.0))
    assert site.offer("s2") == []
    for _ in range(5):
        site.now += 1.0
        assert site.planner.fill(room("s1", long_cpus=0), site.now) == []
    assert names(site.offer("s2")) == ["j.m00000.0"]


def test_without_a_wait_any_slave_is_used() -> None:
    site = Site()
    site.submit("j", [split("s1")], rules(delay_s=0.0))
    assert [attempt.is_local for attempt in site.offer("s2")] == [False]


def test_slots_go_to_the_job_with_the_fewest_tasks_running() -> None:
    site = Site()
    site.submit("a", [split() for _ in range(9)], rules())
    assert len(site.offer("s1", 4)) == 4
    site.submit("b", [split() for _ in range(9)], rules())
    assert [name[0] for name in names(site.offer("s2", 6))] == ["b", "b", "b", "b", "a", "b"]


def test_a_job_that_waits_for_its_slave_lets_another_have_the_slot() -> None:
    site = Site()
    site.submit("a", [split("s1")], rules())
    site.submit("b", [split("s2")], rules())
    assert names(site.offer("s2")) == ["b.m00000.0"]


def test_reduces_begin_when_all_maps_are_done() -> None:
    site = Site()
    site.submit("j", [split(), split()], rules(reduces=2))
    first, second = site.offer("s1", 4)
    site.succeed(first)
    assert site.offer("s1") == []
    assert not site.planner.wants_offers(site.now)
    site.succeed(second)
    assert site.planner.wants_offers(site.now)
    assert names(site.offer("s1", 4)) == ["j.r00000.0", "j.r00001.0"]


def test_a_job_is_done_when_its_last_part_is_saved() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=1))
    site.succeed(site.offer("s1")[0])
    site.succeed(site.offer("s1")[0])
    job = site.planner.jobs["j"]
    phases = [job.phase]
    site.save("j", 0)
    assert [*phases, job.phase] == [Phase.REDUCE, Phase.DONE]


def test_a_failed_task_is_tried_elsewhere_first_and_the_fourth_failure_ends_the_job() -> None:
    site = Site()
    site.submit("j", [split(), split()], rules())
    bad, other = site.offer("s1", 2)
    for number in range(3):
        assert site.planner.failed(bad.task_id, "it broke", site.now) == []
        assert site.offer(bad.slave_id) == []
        (bad,) = site.offer(f"s{number + 2}")
        assert bad.number == number + 1
    assert site.planner.failed(bad.task_id, "it broke", site.now) == [other.task_id]
    assert site.planner.jobs["j"].why == "map 0 failed 4 times, last on s4: it broke"


def test_without_another_slave_a_failed_task_is_tried_there_again() -> None:
    site = Site()
    site.submit("j", [split()], rules())
    site.planner.failed(site.offer("s1")[0].task_id, "it broke", site.now)
    assert site.offer("s1") == []
    site.now += AVOID_S
    assert names(site.offer("s1")) == ["j.m00000.1"]


def test_losses_are_no_failures_but_their_number_is_bounded() -> None:
    site = Site()
    site.submit("j", [split()], rules(max_attempts=1))
    for _ in range(MAX_LOSSES - 1):
        site.planner.lost(site.offer("s1")[0].task_id, "slave lost", site.now)
    assert not site.planner.jobs["j"].phase.is_over
    site.planner.lost(site.offer("s1")[0].task_id, "slave lost", site.now)
    assert site.planner.jobs["j"].phase is Phase.FAILED


def test_a_task_killed_at_its_time_limit_gets_four_times_the_limit() -> None:
    site = Site()
    site.submit("j", [split()], rules(time_limit_s=10.0))
    (first,) = site.offer("s1")
    site.planner.failed(first.task_id, "time is over", site.now, timed_out=True)
    (second,) = site.offer("s1")
    assert (first.time_limit_s, second.time_limit_s) == (10.0, 40.0)


def test_a_guess_that_was_too_short_is_no_failure_of_a_task_and_a_limit_that_was_asked_for_is() -> None:
    site = Site()
    site.submit("j", [split()], rules(max_attempts=2))
    limits = []
    while not site.planner.jobs["j"].phase.is_over:
        (attempt,) = site.offer("s1")
        limits.append(attempt.time_limit_s)
        site.planner.failed(attempt.task_id, "time is over", site.now, timed_out=True)
    assert limits == [60.0 * 4**tries for tries in range(8)]
    assert limits[-3] < 86_400 < limits[-2]
    site.submit("k", [split()], rules(max_attempts=2, time_limit_s=10.0))
    for _ in range(2):
        (attempt,) = site.offer("s1")
        site.planner.failed(attempt.task_id, "time is over", site.now, timed_out=True)
    assert site.planner.jobs["k"].phase.is_over


def test_a_long_limit_waits_for_room_for_long_tasks_and_a_guess_does_not() -> None:
    site = Site()
    site.submit("j", [split()], rules(time_limit_s=100.0))
    assert site.planner.fill(room("s1", 2, long_cpus=0), site.now) == []
    assert len(site.planner.fill(room("s1", 2, long_cpus=1), site.now)) == 1
    site.submit("k", [split()], rules(reduces=1))
    site.succeed(site.planner.fill(room("s1", 2, long_cpus=0), site.now)[0], output_bytes=8 << 30)
    (short,) = site.planner.fill(room("s1", 2, long_cpus=0), site.now)
    assert short.time_limit_s == 60.0


def test_a_lost_slave_takes_its_map_outputs_with_it() -> None:
    site = Site()
    site.submit("j", [split(), split()], rules(reduces=1))
    (first,) = site.offer("s1")
    (second,) = site.offer("s2")
    site.succeed(first)
    site.succeed(second)
    site.planner.slave_lost("s1")
    assert names(site.offer("s3")) == ["j.m00000.1"]
    assert site.offer("s3") == []


def test_a_reduce_that_cannot_fetch_has_the_maps_run_again_and_is_no_failure() -> None:
    site = Site()
    site.submit("j", [split(), split()], rules(reduces=1, max_attempts=1))
    for attempt in site.offer("s1", 2):
        site.succeed(attempt)
    site.now += 1
    (reduce,) = site.offer("s2")
    site.now += 1
    site.planner.unfetchable(reduce.task_id, [1], "no route", site.now)
    (again,) = site.offer("s2")
    assert again.task_id == "j.m00001.1"
    site.succeed(again)
    assert names(site.offer("s2")) == ["j.r00000.1"]


def test_a_map_that_was_run_again_since_is_not_run_a_third_time() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=2))
    site.succeed(site.offer("s1")[0])
    site.now += 1
    one, two = site.offer("s2", 2)
    site.planner.unfetchable(one.task_id, [0], "no route", site.now)
    (again,) = site.offer("s2")
    site.now += 1
    site.succeed(again)
    site.planner.unfetchable(two.task_id, [0], "no route", site.now)
    assert names(site.offer("s2", 4)) == ["j.r00000.1", "j.r00001.1"]


def test_a_reduce_that_can_never_fetch_ends_the_job_with_the_reason() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=2))
    site.succeed(site.offer("s1")[0])
    job = site.planner.jobs["j"]
    for _ in range(MAX_UNFETCHED):
        assert not job.phase.is_over
        site.now += 1
        for again in site.offer("s1", 2):  # the map, where this is not the first time, and the reduces
            if again.work.kind is Kind.MAP:
                site.succeed(again)
        site.now += 1
        site.offer("s2", 2)
        unlucky = next(iter(job.reduces[0].running))
        killed = site.planner.unfetchable(unlucky, [0], "s1:5051 does not answer", site.now)
    assert (
        job.why
        == f"reduce 0 could not fetch its input {MAX_UNFETCHED} times, last on s2: s1:5051 does not answer"
    )
    assert killed == list(job.reduces[1].running)


def test_a_part_of_the_output_that_can_never_be_fetched_ends_the_job_with_the_reason() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=1))
    site.succeed(site.offer("s1")[0])
    for _ in range(MAX_UNFETCHED):
        assert not site.planner.jobs["j"].phase.is_over
        site.succeed(site.offer("s1")[0])
        site.lose_result("j", 0)
    assert site.planner.jobs["j"].why == (
        f"part 0 of the output could not be fetched {MAX_UNFETCHED} times, last: s1:5051 does not answer"
    )


def test_a_part_that_was_saved_is_safe_from_its_slave() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=2))
    site.succeed(site.offer("s1")[0])
    for attempt in site.offer("s1", 2):
        site.succeed(attempt)
    site.save("j", 0)
    site.planner.slave_lost("s1")
    assert names(site.offer("s2", 4)) == ["j.m00000.1"]  # for the other part


def test_a_part_that_is_saved_although_its_slave_was_lost_meanwhile_is_not_made_again() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=2))
    site.succeed(site.offer("s1")[0])
    (reduce,) = site.offer("s2")
    site.succeed(reduce, counters={"g:n": 5})
    output = reduce.work.output
    assert output is not None
    site.planner.slave_lost("s2")
    again, other = site.offer("s3", 2)
    assert again.work is reduce.work
    assert site.planner.saved("j", reduce.work, output, site.now) == [again.task_id]
    site.planner.lost(again.task_id, "killed", site.now)
    assert site.offer("s3") == []
    assert site.planner.jobs["j"].counters["g:n"] == 5
    site.succeed(other)
    site.save("j", 1)
    assert site.planner.jobs["j"].phase is Phase.DONE


def test_an_output_that_another_attempt_has_made_by_now_is_not_lost() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=1))
    site.succeed(site.offer("s1")[0])
    (reduce,) = site.offer("s2")
    site.succeed(reduce)
    site.planner.slave_lost("s2")
    (again,) = site.offer("s3")
    site.succeed(again)
    site.planner.result_lost("j", reduce.work, reduce.task_id, "no route", site.now)
    assert site.offer("s3") == []
    assert reduce.work.unfetched == 0


def test_events_of_a_job_that_is_over_and_forgotten_do_no_harm() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=1))
    site.succeed(site.offer("s1")[0])
    (reduce,) = site.offer("s1")
    site.succeed(reduce)
    output = reduce.work.output
    assert output is not None
    site.planner.cancel("j", site.now)
    site.planner.forget("j")
    assert site.planner.saved("j", reduce.work, output, site.now) == []
    assert site.planner.result_lost("j", reduce.work, reduce.task_id, "no route", site.now) == []
    assert site.planner.fail("j", "it broke", site.now) == []
    assert site.planner.cancel("j", site.now) == []


def test_a_slow_task_gets_a_copy_elsewhere_and_the_second_to_end_is_killed() -> None:
    site = Site()
    site.submit("j", [split() for _ in range(4)], rules(speculate=True))
    slow, *others = site.offer("s1", 4)
    site.now += 2
    for attempt in others:
        site.succeed(attempt)
    assert not site.planner.wants_offers(site.now)
    site.now += 2.5
    assert site.planner.wants_offers(site.now)
    assert site.offer("s1") == []
    (copy,) = site.offer("s2", 4)
    assert (copy.work, copy.is_copy) == (slow.work, True)
    assert site.succeed(copy) == [slow.task_id]
    site.planner.lost(slow.task_id, "killed", site.now)
    assert slow.work.losses == 0


def test_finished_work_gets_no_copy_while_its_other_attempt_is_being_killed() -> None:
    site = Site()
    site.submit("j", [split() for _ in range(4)], rules(speculate=True))
    slow, slower, *others = site.offer("s1", 4)
    site.now += 2
    for attempt in others:
        site.succeed(attempt)
    site.now += 5
    copies = site.offer("s2", 4)
    assert [copy.work for copy in copies] == [slow.work, slower.work]
    site.succeed(copies[0])  # the other map keeps the phase open
    site.planner.lost(copies[1].task_id, "killed", site.now)
    assert [copy.work for copy in site.offer("s3", 4)] == [slower.work]


def test_an_idle_framework_wants_no_offers() -> None:
    site = Site()
    assert not site.planner.wants_offers(site.now)
    site.submit("j", [], rules(reduces=0))
    assert site.planner.jobs["j"].phase is Phase.DONE
    assert not site.planner.wants_offers(site.now)


def test_counters_of_outputs_that_are_made_again_count_once() -> None:
    site = Site()
    site.submit("j", [split()], rules(reduces=1))
    site.succeed(site.offer("s1")[0], counters={"g:n": 5})
    site.planner.slave_lost("s1")
    site.succeed(site.offer("s2")[0], counters={"g:n": 5})
    assert site.planner.jobs["j"].counters["g:n"] == 5
