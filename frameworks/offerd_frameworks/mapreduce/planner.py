"""What to launch where: the pure core of the framework. It gets events with their times, and answers; no clock, no I/O.

Several jobs share one framework fairly: a free slot goes to the job with the fewest running tasks that can use it (Zaharia et
al., EuroSys 2010, Algorithm 2), and a job may wait for a while if none of its tasks is local there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from offerd import Resources
from offerd_frameworks.mapreduce.delay import Delay
from offerd_frameworks.mapreduce.keys import boundaries
from offerd_frameworks.mapreduce.ranges import choose_boundaries
from offerd_frameworks.mapreduce.splits import Split
from offerd_frameworks.mapreduce.work import Attempt, JobState, Kind, Output, Phase, Rules, Work

MAX_LOSSES = 20
"""Most losses of one map or reduce. A loss is not the task's failure, but so many are no accident."""
MAX_UNFETCHED = 8
"""Most failed fetches of one reduce, or of one part of the output. Slaves die sometimes; an unreachable port is no accident."""
AVOID_S = 3.0
"""After a failure on a slave, other slaves are tried for so long; there may be no other."""
SLOW_FACTOR = 2.0
SLOW_LEAST_S = 3.0
"""If nothing else waits, a task that has run longer than twice the median, and than this, is copied."""
SHORT_S = 60.0
REDUCE_BYTES_PER_S = 4 << 20
REDUCE_LEAST_S = 20.0
"""Least guess of a reduce's time, in seconds: slower than any that we have seen."""
TIMEOUT_GROWTH = 4.0
"""A task that was killed at its time limit gets so many times the limit: the same limit would be exceeded again."""
GUESS_UNTIL_S = 86_400.0
"""A task killed at a guessed limit below this has not failed: nobody has forbidden it to take so long."""


@dataclass(slots=True)
class Room:
    """What one offer holds, less what was taken from it in this round."""

    slave_id: str
    hostname: str
    address: str
    free: Resources
    long_free: dict[str, int]
    short_limit_s: float

    def take(self, need: Resources, limit_s: float) -> None:
        self.free = self.free - need
        if limit_s > self.short_limit_s:
            for name, amount in need.scalars.items():
                self.long_free[name] = self.long_free.get(name, 0) - amount

    def fits_long(self, need: Resources) -> bool:
        return all(self.long_free.get(name, 0) >= amount for name, amount in need.scalars.items())


class Planner:
    """All jobs of one framework. Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobState] = {}
        self._attempts: dict[str, tuple[JobState, Attempt]] = {}
        self._submitted = 0

    # -- jobs -------------------------------------------------------------------------------------------------------

    def submit(self, job_id: str, rules: Rules, splits: list[Split], now: float) -> JobState:
        """Add a job; without any input only its reduces are to be run."""
        self._submitted += 1
        job = JobState(
            job_id,
            rules,
            self._submitted,
            now,
            [Work(Kind.MAP, index, split) for index, split in enumerate(splits)],
            [Work(Kind.REDUCE, index) for index in range(rules.reduces)],
            Delay(rules.delay_s),
        )
        self.jobs[job_id] = job
        self._go_on(job, now)
        return job

    def cancel(self, job_id: str, now: float) -> list[str]:
        """End a job unless it is over; returns the tasks to kill."""
        job = self.jobs.get(job_id)
        return self._end(job, Phase.CANCELLED, "cancelled", now) if job is not None else []

    def forget(self, job_id: str) -> None:
        """Forget a job that has ended."""
        self.jobs.pop(job_id, None)

    # -- placing ----------------------------------------------------------------------------------------------------

    def wants_offers(self, now: float) -> bool:
        """Whether any task would be launched if the right slave were offered."""
        return any(self._candidates(job, now) for job in self.jobs.values())

    def fill(self, room: Room, now: float) -> list[Attempt]:
        """The tasks to launch on an offer, in the order of the jobs' turns."""
        launched = []
        while (attempt := self._next(room, now)) is not None:
            launched.append(attempt)
        return launched

    def refusal_s(self, now: float) -> float:
        """How long to refuse a slave on which nothing was launched: until some job has waited long enough."""
        waits = [
            job.delay.left_s(now)
            for job in self.jobs.values()
            if any(work.is_waiting for work in job.open_works())
        ]
        return max(0.05, min([*waits, 1.0]))

    def _next(self, room: Room, now: float) -> Attempt | None:
        fair = sorted(self.jobs.values(), key=lambda job: (job.running, job.number))
        for job in fair:
            need = job.rules.resources
            if not room.free.covers(need):
                continue
            work, is_local = self._choose(job, room, now)
            if work is None:
                continue
            limit_s = self._limit_s(job, work, room)
            if limit_s is not None:
                return self._launch(job, work, room, limit_s, is_local, now)
        return None

    def _choose(self, job: JobState, room: Room, now: float) -> tuple[Work | None, bool | None]:
        """Algorithm 2: local work at once, other work once the job has waited. Also returns whether it is local."""
        able = [
            work
            for work in self._candidates(job, now)
            if now - work.failed_on.get(room.slave_id, -AVOID_S) >= AVOID_S
            and all(attempt.slave_id != room.slave_id for attempt in work.running.values())
        ]
        waiting = [work for work in able if work.is_waiting]
        for work in waiting:
            if room.slave_id in work.local_to:
                return work, True
        for work in waiting:
            if not work.local_to:
                return work, None
        if waiting:
            return (waiting[0], False) if job.delay.may_run_elsewhere(now) else (None, False)
        # Nothing waits: copy a slow task.
        return (
            (able[0], room.slave_id in able[0].local_to if able[0].local_to else None)
            if able
            else (None, None)
        )

    def _candidates(self, job: JobState, now: float) -> list[Work]:
        works = job.open_works()
        waiting = [work for work in works if work.is_waiting]
        if waiting or not job.rules.speculate or not works:
            return waiting
        median_s = job.median_s(works[0].kind)
        if median_s is None:
            return []
        return [
            work
            for work in works
            if work.output is None
            and not work.is_saved
            and len(work.running) == 1
            and all(
                attempt.started_s is not None
                and now - attempt.started_s > max(SLOW_LEAST_S, SLOW_FACTOR * median_s)
                for attempt in work.running.values()
            )
        ]

    def _limit_s(self, job: JobState, work: Work, room: Room) -> float | None:
        """The time limit to use; None if the offer has no room for a task with it."""
        limit_s = job.rules.time_limit_s
        must_be_so = limit_s is not None or work.timeouts > 0
        if limit_s is None:
            limit_s = SHORT_S
            if work.kind is Kind.REDUCE:
                limit_s = REDUCE_LEAST_S + job.output_bytes() / max(1, job.rules.reduces) / REDUCE_BYTES_PER_S
        limit_s *= TIMEOUT_GROWTH**work.timeouts
        if limit_s <= room.short_limit_s or room.fits_long(job.rules.resources):
            return limit_s
        # A guess may be shortened to the slave's short limit; a limit that was asked for, or that follows a timeout, may not.
        return None if must_be_so else room.short_limit_s

    def _launch(
        self, job: JobState, work: Work, room: Room, limit_s: float, is_local: bool | None, now: float
    ) -> Attempt:
        attempt = Attempt(
            task_id=f"{job.job_id}.{work.kind.value}{work.index:05d}.{work.launches}",
            number=work.launches,
            work=work,
            slave_id=room.slave_id,
            hostname=room.hostname,
            address=room.address,
            time_limit_s=limit_s,
            launched_s=now,
            is_local=is_local,
            is_copy=bool(work.running),
        )
        if is_local and not attempt.is_copy:
            job.delay.launched_locally()  # only now: an offer without room for it does not end the wait
        work.launches += 1
        work.running[attempt.task_id] = attempt
        self._attempts[attempt.task_id] = (job, attempt)
        room.take(job.rules.resources, limit_s)
        if job.first_launch_s is None:
            job.first_launch_s = now
        job.counters["copies" if attempt.is_copy else "launched"] += 1
        return attempt

    # -- results ----------------------------------------------------------------------------------------------------

    def find(self, task_id: str) -> tuple[JobState, Attempt] | None:
        """The job and the attempt of a task on the cluster."""
        return self._attempts.get(task_id)

    def started(self, task_id: str, container_id: str, now: float) -> None:
        """The task runs."""
        if (found := self._attempts.get(task_id)) is not None:
            found[1].started_s = now
            found[1].container_id = container_id

    def succeeded(self, task_id: str, container_id: str, report: Mapping[str, Any], now: float) -> list[str]:
        """The task has succeeded, with this report. Returns the tasks to kill: copies that are not needed any more."""
        found = self._drop(task_id, now)
        if found is None:
            return []
        job, attempt = found
        work = attempt.work
        if work.output is not None:
            return []
        work.output = Output(
            task_id, attempt.slave_id, attempt.address, container_id or attempt.container_id, dict(report)
        )
        seconds = now - (attempt.started_s if attempt.started_s is not None else attempt.launched_s)
        job.seconds(work.kind).append(seconds)
        job.slowest = max(job.slowest, (seconds, task_id, attempt.hostname))
        self._count(job, attempt, report)
        others = list(work.running)
        self._go_on(job, now)
        return others

    def failed(self, task_id: str, why: str, now: float, *, timed_out: bool = False) -> list[str]:
        """The task has failed by itself. Returns the tasks to kill, if that ends the job."""
        found = self._drop(task_id, now)
        if found is None:
            return []
        job, attempt = found
        work = attempt.work
        self._waste(job, attempt, now)
        is_bad_guess = timed_out and job.rules.time_limit_s is None and attempt.time_limit_s < GUESS_UNTIL_S
        work.failures += not is_bad_guess
        work.timeouts += timed_out
        job.counters["failed"] += 1
        if not timed_out:
            work.failed_on[attempt.slave_id] = now
        if work.output is None and work.failures >= job.rules.max_attempts:
            times = f"{work.failures} times" if work.failures > 1 else "once"
            what = "map" if work.kind is Kind.MAP else "reduce"
            return self._end(
                job,
                Phase.FAILED,
                f"{what} {work.index} failed {times}, last on {attempt.hostname}: {why}",
                now,
            )
        return []

    def lost(self, task_id: str, why: str, now: float) -> list[str]:
        """The task was lost or killed by others, which is not its failure. Returns the tasks to kill, if that ends the job."""
        found = self._drop(task_id, now)
        if found is None:
            return []
        job, attempt = found
        work = attempt.work
        if work.output is not None or job.phase.is_over:
            return []  # we killed it ourselves: a copy, or a task of an ended job
        self._waste(job, attempt, now)
        work.losses += 1
        job.counters["lost"] += 1
        if work.losses >= MAX_LOSSES:
            return self._end(job, Phase.FAILED, f"{task_id} was lost {work.losses} times, last: {why}", now)
        return []

    def unfetchable(self, task_id: str, maps: list[int], why: str, now: float) -> list[str]:
        """A reduce could not fetch the outputs of these maps: they must run again, and then the reduce.

        Returns the tasks to kill, if that ends the job.
        """
        found = self._drop(task_id, now)
        if found is None:
            return []
        job, attempt = found
        work = attempt.work
        if work.output is not None or job.phase.is_over:
            return []
        self._waste(job, attempt, now)
        work.unfetched += 1
        job.counters["lost"] += 1
        if work.unfetched >= MAX_UNFETCHED:
            what = f"reduce {work.index} could not fetch its input {work.unfetched} times"
            return self._end(job, Phase.FAILED, f"{what}, last on {attempt.hostname}: {why}", now)
        # Maps that have run again since this reduce was launched are not in doubt.
        for index in maps:
            output = job.maps[index].output if index < len(job.maps) else None
            if output is not None and output.report.get("ended_s", 0.0) <= attempt.launched_s:
                self._lose_output(job, job.maps[index])
        return []

    def slave_lost(self, slave_id: str) -> None:
        """The outputs on this slave are lost: those of maps that reduces still need, and results that were not saved."""
        for job in self.jobs.values():
            if job.phase.is_over:
                continue
            for work in job.works():
                if work.output is not None and work.output.slave_id == slave_id and not work.is_saved:
                    self._lose_output(job, work)
            for work in job.works():
                work.failed_on.pop(slave_id, None)

    def result_lost(self, job_id: str, work: Work, task_id: str, why: str, now: float) -> list[str]:
        """The output of this attempt, which is a part of the job's, could not be fetched, and must be made again.

        Returns the tasks to kill, if that ends the job. If it was lost before, or saved from another attempt, nothing changes.
        """
        job = self.jobs.get(job_id)
        if job is None or job.phase.is_over or work.is_saved:
            return []
        if work.output is None or work.output.task_id != task_id:
            return []
        self._lose_output(job, work)
        work.unfetched += 1
        if work.unfetched >= MAX_UNFETCHED:
            what = f"part {work.index} of the output could not be fetched {work.unfetched} times"
            return self._end(job, Phase.FAILED, f"{what}, last: {why}", now)
        return []

    def saved(self, job_id: str, work: Work, output: Output, now: float) -> list[str]:
        """This output is saved as its part of the job's output; with the last part the job is done.

        Returns the tasks to kill: if the slave was lost meanwhile, the part may be made a second time.
        """
        job = self.jobs.get(job_id)
        if job is None:
            return []
        work.is_saved = True
        if work.output is None:
            work.output = output
            self._count_report(job, work.kind, output.report)
        if all(work.is_saved for work in job.reduces or job.maps):
            self._end(job, Phase.DONE, "", now)
        return list(work.running)

    def fail(self, job_id: str, why: str, now: float) -> list[str]:
        """End a job for an external reason, unless it is over; returns the tasks to kill."""
        job = self.jobs.get(job_id)
        return self._end(job, Phase.FAILED, why, now) if job is not None else []

    # -- inside -----------------------------------------------------------------------------------------------------

    def _go_on(self, job: JobState, now: float) -> None:
        if job.phase.is_over:
            return
        if job.maps_done and job.phase is Phase.MAP:
            job.phase = Phase.REDUCE
            sampled = [
                (str(key).encode("latin-1"), int(weight))
                for work in job.maps
                if work.output is not None
                for key, weight in work.output.report.get("samples", ())
            ]
            reduces = max(1, job.rules.reduces)
            job.boundaries = (
                boundaries(reduces) if job.rules.fields_decide else choose_boundaries(sampled, reduces)
            )
        if not job.reduces and not job.maps:
            self._end(job, Phase.DONE, "", now)

    def _lose_output(self, job: JobState, work: Work) -> None:
        if work.output is None:
            return
        report, work.output = work.output.report, None
        job.counters["outputs lost"] += 1
        for counter, amount in self._counts(work.kind, report).items():
            job.counters[counter] -= amount

    def _count(self, job: JobState, attempt: Attempt, report: Mapping[str, Any]) -> None:
        if attempt.work.kind is Kind.MAP and attempt.is_local is not None:
            # Count what was read, not what was planned: a replica may have gone meanwhile.
            job.counters["local maps" if report.get("read") == "local" else "remote maps"] += 1
        self._count_report(job, attempt.work.kind, report)

    def _count_report(self, job: JobState, kind: Kind, report: Mapping[str, Any]) -> None:
        for name, amount in self._counts(kind, report).items():
            job.counters[name] += amount

    @staticmethod
    def _counts(kind: Kind, report: Mapping[str, Any]) -> dict[str, int]:
        side = "map" if kind is Kind.MAP else "reduce"
        names = ("input_records", "input_bytes", "output_records", "output_bytes")
        found = {f"{side} {name.replace('_', ' ')}": int(report[name]) for name in names if name in report}
        for name in ("shuffled_local_bytes", "shuffled_remote_bytes"):
            if name in report:
                found[name.replace("_", " ")] = int(report[name])
        for name, amount in report.get("counters", {}).items():
            found[str(name)] = int(amount)
        return found

    def _drop(self, task_id: str, now: float) -> tuple[JobState, Attempt] | None:
        found = self._attempts.pop(task_id, None)
        if found is not None:
            job, attempt = found
            attempt.work.running.pop(task_id, None)
            job.busy_cpu_s += (now - attempt.launched_s) * job.rules.resources.millicpus / 1000
        return found

    def _waste(self, job: JobState, attempt: Attempt, now: float) -> None:
        if attempt.work.output is None:
            job.waste_s += now - attempt.launched_s

    def _end(self, job: JobState, phase: Phase, why: str, now: float) -> list[str]:
        if job.phase.is_over:
            return []
        job.phase, job.why, job.ended_s = phase, why, now
        return [task_id for work in job.works() for task_id in work.running]

    def attempts(self) -> Iterator[Attempt]:
        """All attempts on the cluster."""
        for _, attempt in self._attempts.values():
            yield attempt
