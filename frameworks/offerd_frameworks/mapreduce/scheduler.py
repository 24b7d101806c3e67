"""The framework's scheduler: a thin shell between the planner, which decides, and the cluster.

All callbacks and `call_soon`s run in the driver's thread, so the planner needs no lock. Work that waits for a network (reports,
parts of the output) is done by a few threads, which return their results with `call_soon`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import offerd
from offerd import FilesAccess, Offer, Reason, Resources, TaskState, TaskStatus
from offerd_frameworks.mapreduce import digests, keys
from offerd_frameworks.mapreduce.describe import CLEAN_RESOURCES, Describer, cleaning
from offerd_frameworks.mapreduce.failures import TransferError
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.output import OutputDirectory
from offerd_frameworks.mapreduce.planner import Planner, Room
from offerd_frameworks.mapreduce.progress import Progress, Summary, progress_of, summary_of
from offerd_frameworks.mapreduce.report import Said, read_report, read_said
from offerd_frameworks.mapreduce.splits import Split
from offerd_frameworks.mapreduce.task import PROGRESS, REPORT
from offerd_frameworks.mapreduce.transfer import Server
from offerd_frameworks.mapreduce.work import Attempt, JobState, Kind, Output, Phase, Rules, Work

log = logging.getLogger("offerd.mapreduce")

POLL_S = 1.0
"""How often running reduces are asked for their progress."""
POLL_TIMEOUT_S = 2.0
CLEAN_WITHIN_S = 5.0
"""Offers are wanted for at most so long just to remove what a job has left; after that the slaves remove it themselves."""
BAD_TASK = frozenset({Reason.TASK_INVALID, Reason.FRAMEWORK_INVALID})
NOTHING = Resources()
ANY_SLAVE: Mapping[str, str] = {}


@dataclass(eq=False)
class Running:
    """A job with all that belongs to it. `done` gets its summary, or what made it fail."""

    job_id: str
    job: Job
    splits: list[Split]
    output: OutputDirectory
    describer: Describer
    cluster_cpus: float
    forget_files: Callable[[], object]
    accesses: Mapping[str, FilesAccess] = field(default_factory=dict)  # when it was submitted
    done: Future[Summary] = field(default_factory=Future)
    progress: Progress = field(default_factory=Progress)
    state: JobState | None = None
    shuffled: dict[str, int] = field(default_factory=dict)
    status: str = ""
    slaves: set[str] = field(default_factory=set)
    asked_at_s: float = 0.0
    asking: set[str] = field(default_factory=set)  # reduces whose progress was asked for and has not come


class MapReduceScheduler(offerd.Scheduler):
    """Runs any number of jobs, fairly.

    `connect` makes its driver. `pool` does the work that jobs wait for, and `questions` only asks for progress, so that no
    report waits behind a slave that does not answer.
    """

    def __init__(
        self,
        connect: Callable[[offerd.Scheduler], offerd.SchedulerDriver],
        pool: Executor,
        questions: Executor,
        attributes: Mapping[str, str] = ANY_SLAVE,
    ) -> None:
        self._attributes = dict(attributes)
        self._planner = Planner()
        self._accesses: dict[str, FilesAccess] = {}  # for slaves that have not been offered yet
        self._jobs: dict[str, Running] = {}
        self._pool = pool
        self._questions = questions
        self._needs_offers = False
        self._minimum = NOTHING
        self._to_clean: dict[str, dict[str, float]] = {}  # slave -> job -> deadline
        self._cleaned = 0
        self._cleaning: set[str] = set()
        self.driver = connect(self)

    @property
    def is_idle(self) -> bool:
        """Nothing runs, and nothing is left to be cleaned up."""
        return not self._jobs and not self._to_clean and not self._cleaning

    def job_ids(self) -> list[str]:
        """The ids of all jobs that are not over."""
        return list(self._jobs)

    # -- from the framework, in the driver's thread -------------------------------------------------------------------

    def add(self, driver: offerd.SchedulerDriver, running: Running) -> None:
        """Start a job."""
        job, now = running.job, time.monotonic()
        for slave_id, access in running.accesses.items():
            self._accesses[slave_id] = access
        rules = Rules(
            resources=job.resources(),
            reduces=job.reduces,
            delay_s=job.delay_s,
            max_attempts=job.max_attempts,
            speculate=job.speculate,
            time_limit_s=job.time_limit_s,
            fields_decide=bool(keys.read(job.keys).partition),
        )
        running.state = self._planner.submit(running.job_id, rules, running.splits, now)
        self._jobs[running.job_id] = running
        self._set_filters(driver)
        driver.revive_offers()
        self.tick(driver)

    def cancel(self, driver: offerd.SchedulerDriver, job_id: str) -> None:
        """End a job; its tasks are killed."""
        if job_id in self._jobs:
            self._kill(driver, self._planner.cancel(job_id, time.monotonic()))
            self._look_at(driver, job_id)

    def tick(self, driver: offerd.SchedulerDriver) -> None:
        """Do what is due. To be called several times a second while there are jobs."""
        now = time.monotonic()
        for running in list(self._jobs.values()):
            self._look_at(driver, running.job_id)
            if running.state is not None and now - running.asked_at_s >= POLL_S:
                running.asked_at_s = now
                self._ask_reduces(running)
        for slave_id, jobs in list(self._to_clean.items()):
            for job_id in [job_id for job_id, until in jobs.items() if until <= now]:
                del jobs[job_id]
            if not jobs:
                del self._to_clean[slave_id]
        self._say_whether_offers_are_wanted(driver, now)

    # -- callbacks ------------------------------------------------------------------------------------------------------

    def resource_offers(self, driver: offerd.SchedulerDriver, offers: list[Offer]) -> None:
        now = time.monotonic()
        for offer in offers:
            room = Room(
                offer.slave_id,
                offer.hostname,
                offer.files_address,
                offer.resources,
                dict(offer.long_quantities),
                offer.short_limit_s,
            )
            tasks = self._cleanings(room)
            for attempt in self._planner.fill(room, now):
                job_id = attempt.task_id.partition(".")[0]
                running = self._jobs[job_id]
                assert running.state is not None
                running.slaves.add(offer.slave_id)
                tasks.append(running.describer.task(running.state, attempt))
            refusal_s = self._planner.refusal_s(now)
            if not tasks:
                driver.decline_offer(offer.offer_id, refusal_s)
                continue
            try:
                self._launch(driver, offer, tasks, refusal_s, now)
            except (offerd.BadInput, offerd.MessageTooLarge):
                self._launch_good(driver, offer, tasks, now)
        self._say_whether_offers_are_wanted(driver, now)

    def status_update(self, driver: offerd.SchedulerDriver, status: TaskStatus) -> None:
        now = time.monotonic()
        if status.state is TaskState.RUNNING:
            self._planner.started(status.task_id, status.container_id, now)
            return
        if not status.state.terminal:
            return
        self._cleaning.discard(status.task_id)
        found = self._planner.find(status.task_id)
        if found is None:
            return
        state, attempt = found
        why = status.message or status.reason or status.state.value
        if status.state is TaskState.FINISHED or status.reason == Reason.COMMAND_EXITED:
            container_id = status.container_id or attempt.container_id
            self._in_background(
                state.job_id,
                partial(_report, self.access(attempt.slave_id), container_id, status.task_id, attempt.key),
                partial(self._reported, driver, status, container_id),
            )
            return
        if status.reason == Reason.TASK_TIMEOUT:
            self._kill(driver, self._planner.failed(status.task_id, why, now, timed_out=True))
        elif status.reason in BAD_TASK:
            self._kill(driver, self._planner.fail(state.job_id, why, now))
        elif status.state is TaskState.FAILED:
            self._kill(driver, self._planner.failed(status.task_id, why, now))
        else:
            self._kill(driver, self._planner.lost(status.task_id, why, now))
        self._look_at(driver, state.job_id)
        self._say_whether_offers_are_wanted(driver, now)

    def slave_lost(self, driver: offerd.SchedulerDriver, slave_id: str) -> None:
        self._planner.slave_lost(slave_id)
        self._to_clean.pop(slave_id, None)
        for running in self._jobs.values():
            running.slaves.discard(slave_id)  # the slave will not be offered for cleaning
        self.tick(driver)

    def error(self, driver: offerd.SchedulerDriver, reason: str, message: str) -> None:
        for running in self._jobs.values():
            if not running.done.done():
                running.output.discard()
                running.done.set_exception(offerd.OfferdError(message))

    # -- results --------------------------------------------------------------------------------------------------------

    def _reported(
        self,
        driver: offerd.SchedulerDriver,
        status: TaskStatus,
        container_id: str,
        fetched: Future[dict[str, Any]],
    ) -> None:
        """A task's report has come, or could not be fetched: then its output could not be fetched either."""
        now = time.monotonic()
        found = self._planner.find(status.task_id)
        if found is None:
            return
        state, attempt = found
        try:
            report = fetched.result()
        except (TransferError, OSError, ValueError) as error:
            report = {}
            if status.state is TaskState.FINISHED:
                self._kill(driver, self._planner.lost(status.task_id, str(error), now))
                self._look_at(driver, state.job_id)
                return
        if status.state is TaskState.FINISHED:
            report["ended_s"] = now
            self._kill(driver, self._planner.succeeded(status.task_id, container_id, report, now))
            if (output := attempt.work.output) is not None and output.task_id == status.task_id:
                self._save_if_result(driver, state, attempt, output)
        elif "unfetchable" in report:
            why = str(report.get("error"))
            log.info("%s: %s; these maps are run again", status.task_id, why)
            self._kill(driver, self._planner.unfetchable(status.task_id, report["unfetchable"], why, now))
        else:
            why = str(report.get("error") or status.message)
            log.info("%s failed on %s: %s", status.task_id, attempt.hostname, why)
            self._kill(driver, self._planner.failed(status.task_id, why, now))
        self._look_at(driver, state.job_id)
        self._say_whether_offers_are_wanted(driver, now)

    def _save_if_result(
        self, driver: offerd.SchedulerDriver, state: JobState, attempt: Attempt, output: Output
    ) -> None:
        """Save the output of a reduce, or of a map in a job without reduces, as a part of the job's output."""
        running = self._jobs.get(state.job_id)
        if running is None or attempt.work.is_saved or (state.reduces and attempt.work.kind is Kind.MAP):
            return
        path = f"/containers/{output.container_id}/tasks/{output.task_id}/output"
        self._in_background(
            running.job_id,
            partial(
                running.output.save,
                output.task_id,
                self.access(output.slave_id),
                path,
                output.size,
                output.sha256,
            ),
            partial(self._saved, driver, running, attempt.work, output),
        )

    def _saved(
        self,
        driver: offerd.SchedulerDriver,
        running: Running,
        work: Work,
        output: Output,
        saving: Future[None],
    ) -> None:
        """A part was fetched, or not. Meanwhile the job may be over, or another attempt's part saved: the first one counts."""
        now, task_id, job_id = time.monotonic(), output.task_id, running.job_id
        if job_id not in self._jobs or work.is_saved:
            running.output.drop(task_id)
            return
        try:
            saving.result()
            running.output.keep(work.index, task_id)
        except TransferError as error:
            log.info("the output of %s is lost: %s", task_id, error)
            running.output.drop(task_id)
            self._kill(driver, self._planner.result_lost(job_id, work, task_id, str(error), now))
        except OSError as error:
            why = f"cannot write the output: {error.strerror}"
            self._kill(driver, self._planner.fail(job_id, why, now))
        else:
            self._kill(driver, self._planner.saved(job_id, work, output, now))
        self._look_at(driver, job_id)
        self._say_whether_offers_are_wanted(driver, now)

    def _ask_reduces(self, running: Running) -> None:
        """Ask each reduce for its progress, unless it has not answered the last question."""
        for attempt in self._planner.attempts():
            task_id = attempt.task_id
            if (
                attempt.work.kind is Kind.REDUCE
                and attempt.container_id
                and task_id.startswith(f"{running.job_id}.")
                and task_id not in running.asking
            ):
                running.asking.add(task_id)
                question = partial(_progress, self.access(attempt.slave_id), attempt.container_id, task_id)
                heard = partial(self._heard, running, task_id)
                self._in_background(running.job_id, question, heard, self._questions)

    @staticmethod
    def _heard(running: Running, task_id: str, asked: Future[Said]) -> None:
        running.asking.discard(task_id)
        if asked.cancelled():
            return  # the framework is being closed
        said = asked.result()
        running.shuffled[task_id] = said.bytes
        running.status = said.status or running.status

    # -- the end of a job -----------------------------------------------------------------------------------------------

    def _look_at(self, driver: offerd.SchedulerDriver, job_id: str) -> None:
        """Update the progress that the job's owner sees; finish the job if it is over."""
        running = self._jobs.get(job_id)
        if running is None or running.state is None:
            return
        state, now = running.state, time.monotonic()
        running.progress = progress_of(state, running.shuffled, running.status, now)
        if not state.phase.is_over:
            return
        del self._jobs[job_id]
        self._planner.forget(job_id)
        self._kill(driver, [task_id for work in state.works() for task_id in work.running])
        for slave_id in running.slaves:
            self._to_clean.setdefault(slave_id, {})[job_id] = now + CLEAN_WITHIN_S
        self._set_filters(driver)
        driver.revive_offers()
        published = self._pool.submit(partial(self._publish, running, state))
        if _had_no_thread(published):
            self._publish(running, state)
        else:
            published.add_done_callback(lambda done: self.driver.call_soon(done.result))

    @staticmethod
    def _publish(running: Running, state: JobState) -> None:
        try:
            if state.phase is Phase.DONE:
                running.output.publish()
                running.done.set_result(summary_of(state, str(running.output.path), running.cluster_cpus))
            else:
                running.output.discard()
                running.done.set_exception(offerd.OfferdError(state.why))
        except offerd.OfferdError as error:
            running.done.set_exception(error)
        running.forget_files()

    def _cleanings(self, room: Room) -> list[offerd.TaskInfo]:
        """Tasks that remove what ended jobs have left on this slave, as far as the offer has room."""
        tasks = []
        jobs = self._to_clean.get(room.slave_id, {})
        while jobs and room.free.covers(CLEAN_RESOURCES):
            job_id = next(iter(jobs))
            del jobs[job_id]
            self._cleaned += 1
            task = cleaning(job_id, self._cleaned)
            self._cleaning.add(task.task_id)
            tasks.append(task)
            room.free = room.free - CLEAN_RESOURCES
        if not jobs:
            self._to_clean.pop(room.slave_id, None)
        return tasks

    # -- inside ---------------------------------------------------------------------------------------------------------

    def access(self, slave_id: str) -> FilesAccess:
        """The newest access to the files of a slave."""
        newest = self.driver.files(offerd.SlaveID(slave_id))
        return newest if newest.address else self._accesses.get(slave_id, newest)

    def _launch_good(
        self, driver: offerd.SchedulerDriver, offer: Offer, tasks: list[offerd.TaskInfo], now: float
    ) -> None:
        """A task that does not fit into a message ends its job, but no other."""
        faults = {task.task_id: driver.fault(task) for task in tasks}
        failed: set[str] = set()
        for task_id, fault in faults.items():
            if fault:
                failed.add(job_id := task_id.partition(".")[0])
                self._planner.fail(job_id, f"{task_id}: {fault}", now)
                self._look_at(driver, job_id)
        good = [task for task in tasks if task.task_id.partition(".")[0] not in failed]
        if good:
            self._launch(driver, offer, good, 0.0, now)
        else:
            driver.decline_offer(offer.offer_id, 0.0)

    def _launch(
        self,
        driver: offerd.SchedulerDriver,
        offer: Offer,
        tasks: list[offerd.TaskInfo],
        refusal_s: float,
        now: float,
    ) -> None:
        """If there are more tasks than fit into one message, launch the first half. The rest is removed from the list, and
        waits for the next offer. Raises `MessageTooLarge` and `BadInput`.
        """
        if driver.fits_message(tasks):
            driver.reply_to_offer(offer.offer_id, tasks, refusal_s)
            return
        while len(tasks) > 1 and not driver.fits_message(tasks):
            for task in tasks[len(tasks) // 2 :]:
                self._planner.lost(task.task_id, "too many at once", now)
            del tasks[len(tasks) // 2 :]
        driver.reply_to_offer(offer.offer_id, tasks)

    def _say_whether_offers_are_wanted(self, driver: offerd.SchedulerDriver, now: float) -> None:
        wants = self._planner.wants_offers(now) or bool(self._to_clean)
        if wants != self._needs_offers:
            self._needs_offers = wants
            driver.set_needs_offers(wants)

    def _set_filters(self, driver: offerd.SchedulerDriver) -> None:
        """Filter out offers that are too small for every job."""
        needs = [running.job.resources().scalars for running in self._jobs.values()]
        if self._to_clean:
            needs.append(CLEAN_RESOURCES.scalars)
        names = set.intersection(*(set(need) for need in needs)) if needs else set()
        minimum = Resources({name: min(need[name] for need in needs) for name in names})
        if minimum != self._minimum:
            self._minimum = minimum
            driver.set_filters(offerd.Filters(minimum=minimum, attributes=self._attributes))

    @staticmethod
    def _kill(driver: offerd.SchedulerDriver, task_ids: list[str]) -> None:
        for task_id in task_ids:
            driver.kill_task(offerd.TaskID(task_id), 1.0)

    def _in_background(
        self,
        job_id: str,
        work: Callable[[], Any],
        then: Callable[[Future[Any]], None],
        pool: Executor | None = None,
    ) -> None:
        """Do `work` in a thread of a pool, and `then` in the driver's thread. If no thread can be started, the job fails."""
        future = (pool or self._pool).submit(work)
        future.add_done_callback(lambda done: self.driver.call_soon(self._back, job_id, then, done))

    def _back(self, job_id: str, then: Callable[[Future[Any]], None], done: Future[Any]) -> None:
        if _had_no_thread(done):
            why = str(done.exception())
            self._kill(self.driver, self._planner.fail(job_id, why, time.monotonic()))
            self._look_at(self.driver, job_id)
        else:
            then(done)

    driver: offerd.SchedulerDriver
    """Set by the code that makes the driver, which needs the scheduler first."""


def _had_no_thread(future: Future[Any]) -> bool:
    if not future.done() or future.cancelled():
        return False
    return isinstance(future.exception(), offerd.NoThread)


def _report(files: FilesAccess, container_id: str, task_id: str, key: str) -> dict[str, Any]:
    """A task's report. Raises `TransferError`, `ValueError` and `OSError`."""
    with Server(files) as server:
        sealed = server.read(f"/containers/{container_id}/tasks/{task_id}/{REPORT}")
    return read_report(digests.unseal(sealed, key, f"the report of {task_id}"))


def _progress(files: FilesAccess, container_id: str, task_id: str) -> Said:
    """The last reported progress of a reduce; empty if there is none yet, or its slave is busy."""
    try:
        with Server(files, timeout_s=POLL_TIMEOUT_S, sleep=_not_again) as server:
            return read_said(server.read(f"/containers/{container_id}/tasks/{task_id}/{PROGRESS}"))
    except (OSError, ValueError, TransferError):
        return Said()


def _not_again(_seconds: float) -> None:
    raise TransferError("it is asked only once")
