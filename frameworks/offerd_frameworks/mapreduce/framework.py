"""The framework as a program uses it: connect, submit jobs, and wait for them.

with MapReduce() as framework:
    handles = [framework.submit(job) for job in jobs]
    for handle in handles:
        print(handle.result().elapsed_s)
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Self

import offerd
from offerd import Waiting
from offerd_frameworks.mapreduce import blocks, digests, inputs
from offerd_frameworks.mapreduce.describe import EXECUTOR_ID, Describer
from offerd_frameworks.mapreduce.failures import TransferError
from offerd_frameworks.mapreduce.inputs import DATA_PREFIX
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.output import OutputDirectory
from offerd_frameworks.mapreduce.planner import SHORT_S
from offerd_frameworks.mapreduce.progress import Progress, Summary
from offerd_frameworks.mapreduce.scheduler import ANY_SLAVE, MapReduceScheduler, Running
from offerd_frameworks.mapreduce.splits import Split, input_files, split_files
from offerd_frameworks.mapreduce.task import stored_name
from offerd_frameworks.mapreduce.transfer import Server

BACKGROUND_THREADS = 8
QUESTION_THREADS = 4
TICK_S = 0.2
SHELVES = 3
"""A job's files are stored on so many slaves."""
LINGER_S = 6.0


class JobHandle:
    """A submitted job."""

    def __init__(self, framework: MapReduce, running: Running) -> None:
        self._framework = framework
        self._running = running

    @property
    def job_id(self) -> str:
        return self._running.job_id

    @property
    def progress(self) -> Progress:
        """How far it is, updated several times a second."""
        return self._running.progress

    def done(self) -> bool:
        return self._running.done.done()

    def result(self, timeout_s: float | None = None) -> Summary:
        """Wait until it has ended. Raises `OfferdError` with the reason if it failed, `TimeoutError` if it takes longer."""
        return self._running.done.result(timeout_s)

    def cancel(self) -> None:
        """Kill its tasks; `result` then raises."""
        self._framework.cancel(self)


class MapReduce:
    """One framework on the cluster; any number of jobs share its resources. Without a job it holds none.

    `master` as for `SchedulerDriver`; tasks run as `user`, on slaves with these `attributes`. Raises `OfferdError` if no master
    answers.
    """

    def __init__(
        self,
        master: str | None = None,
        *,
        name: str = "mapreduce",
        user: str = "",
        role: str = "*",
        attributes: Mapping[str, str] = ANY_SLAVE,
    ) -> None:
        self._master = master
        self._pool = offerd.Workers(BACKGROUND_THREADS, "mapreduce")
        self._questions = offerd.Workers(QUESTION_THREADS, "mapreduce-questions")
        info = offerd.FrameworkInfo(
            name,
            user=user,
            role=role,
            executors=[
                offerd.ExecutorInfo(
                    offerd.ExecutorID(EXECUTOR_ID), module="offerd_executors.command", name="mapreduce"
                )
            ],
            hostname=socket.gethostname(),
        )
        connect = partial(offerd.SchedulerDriver, framework=info, master=master, connect_timeout_s=None)
        self._scheduler = MapReduceScheduler(connect, self._pool, self._questions, attributes)
        self._driver = self._scheduler.driver
        self._driver.set_needs_offers(False)
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="mapreduce-ticks", daemon=True)
        self._driver.start()
        self._driver.wait_registered()
        try:
            self._ticker.start()
        except RuntimeError:
            self._driver.stop()
            raise offerd.NoThread("MapReduce jobs") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_registered(self) -> bool:
        """Whether it is registered with a master now."""
        return self._driver.is_registered

    def explain_waiting(self, job: Job) -> Future[Waiting]:
        """Why no resources are offered for a task of this job, as a future."""
        return self._driver.explain_waiting(job.resources(), job.time_limit_s or SHORT_S)

    def submit(self, job: Job) -> JobHandle:
        """Start a job; returns when its input is known and its files are stored. Raises `BadInput` and `OfferdError`."""
        job.check()
        hosts = blocks.hosts(self._master)
        with offerd.OperatorClient(self._master) as client:
            cpus = client.cluster().total.millicpus / 1000
        splits = _splits(job, hosts, cpus)
        contents = job.read_files()
        known = {name: (len(content), digests.of_bytes(content)) for name, content in contents.items()}
        job_id = f"{job.title}-{secrets.token_hex(3)}".replace(".", "-")
        output = OutputDirectory(job.output)
        try:
            shelves = _place(job_id, contents, hosts)
        except BaseException:
            output.discard()
            raise
        name = f"{blocks.JOB_PREFIX}{job_id}"
        running = Running(
            job_id=job_id,
            job=job,
            splits=splits,
            output=output,
            describer=Describer(
                job_id,
                job,
                known,
                [host.slave_id for host in shelves],
                hosts[0].path() if hosts else "",
                self._scheduler.access,
            ),
            accesses={host.slave_id: host.files for host in hosts},
            cluster_cpus=cpus,
            forget_files=lambda: blocks.remove(name, shelves),
        )
        self._driver.call_soon(self._scheduler.add, self._driver, running)
        return JobHandle(self, running)

    def cancel(self, handle: JobHandle) -> None:
        """See `JobHandle.cancel`."""
        self._driver.call_soon(self._scheduler.cancel, self._driver, handle.job_id)

    def close(self) -> None:
        """Cancel jobs that still run, and remove what tasks have left on the slaves if that is quick."""
        for job_id in list(self._scheduler.job_ids()):
            self._driver.call_soon(self._scheduler.cancel, self._driver, job_id)
        give_up_at = time.monotonic() + LINGER_S
        while not self._scheduler.is_idle and time.monotonic() < give_up_at and self._driver.is_registered:
            time.sleep(TICK_S / 4)
        self._closing.set()
        self._ticker.join()
        self._questions.shutdown(cancel_futures=True)
        self._pool.shutdown()
        self._driver.stop()
        self._driver.join()

    def _tick(self) -> None:
        while not self._closing.wait(TICK_S):
            if not self._scheduler.is_idle:
                self._driver.call_soon(self._scheduler.tick, self._driver)


def _splits(job: Job, hosts: Sequence[blocks.Host], cpus: float) -> list[Split]:
    """The maps' inputs: one for each block of a data set; files by path are cut here."""
    texts = inputs.expand(job.input)
    named = [text.removeprefix(DATA_PREFIX) for text in texts if text.startswith(DATA_PREFIX)]
    sets = [name for text in named for name in _sets(text, hosts)]
    paths = [text for text in texts if not text.startswith(DATA_PREFIX)]
    splits = [split for name in sets for split in blocks.splits_of(name, hosts)]
    if paths:
        files = input_files(paths)
        size = sum(os.stat(file).st_size for file in files)
        splits += split_files(files, job.block_bytes_for(size, cpus))
    return splits


def _sets(text: str, hosts: Sequence[blocks.Host]) -> list[str]:
    """The data sets that a name or pattern means. Raises `BadInput`."""
    if not inputs.is_pattern(text):
        return [text]
    names = [name for name in blocks.names(hosts) if not name.startswith(blocks.JOB_PREFIX)]
    if found := inputs.matches(names, text):
        return found
    raise offerd.BadInput(f"no set matches {text}; see `offerd data ls`")


def _place(job_id: str, contents: dict[str, bytes], hosts: Sequence[blocks.Host]) -> list[blocks.Host]:
    """Store the job's files on some slaves, from which its tasks fetch them; returns these slaves."""
    if not contents:
        return []
    shelves: list[blocks.Host] = []
    why = "there is no slave"
    for host in hosts:
        try:
            with Server(host.files) as server:
                for number, content in enumerate(contents.values()):
                    server.put(host.path(f"{blocks.JOB_PREFIX}{job_id}", stored_name(number)), content)
        except (TransferError, OSError) as error:
            why = str(error)
            continue
        shelves.append(host)
        if len(shelves) == SHELVES:
            break
    if not shelves:
        raise offerd.OfferdError(f"the job's files cannot be stored: {why}")
    return shelves
