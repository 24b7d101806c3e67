"""What a task on a slave is given: the description that `task` reads, and the variables that scripts for Hadoop use."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from typing import Any

from offerd import CommandInfo, FilesAccess, FilesPass, Resources, TaskInfo
from offerd_frameworks.mapreduce.digests import DIGEST_BYTES
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.task import pack
from offerd_frameworks.mapreduce.work import Attempt, JobState, Kind

EXECUTOR_ID = "mapreduce"
LEAST_SORT_BYTES = 4 << 20
MOST_SORT_BYTES = 8 << 20
"""More memory would make sorting slower, not faster: what fits into the processor's caches is fast, and so is merging the rest.
"""
RUN = 'exec "$OFFERD_PYTHON" -m offerd_frameworks.mapreduce.task'
LEFT = ("output", "index", "segment-*", "input", "unsorted", "sort*", "commands")
"""What a task may have left in its directory, even one that was killed halfway."""
_ALL = "../../files-job-{job} " + " ".join(f"../{{job}}.*/{name}" for name in LEFT)
# Commands may leave directories that even their owner may not enter.
CLEAN = f"find {_ALL} -type d ! -perm -700 -exec chmod u+rwx {{{{}}}} \\; 2>/dev/null; rm -rf -- {_ALL}"
CLEAN_RESOURCES = Resources.of(cpus="0.01", mem="4M")
CLEAN_LIMIT_S = 20.0


class Describer:
    """Makes the tasks of one job. `files` are the job's files, each with its size and SHA-256; `shelves` are the slaves that
    hold them; `data` is the path of our sets on file servers. A task gets only a token for each sandbox and set that it reads,
    made of the newest `access` to each slave.
    """

    def __init__(
        self,
        job_id: str,
        job: Job,
        files: dict[str, tuple[int, str]],
        shelves: list[str],
        data: str,
        access: Callable[[str], FilesAccess],
    ) -> None:
        self._data = data
        self._access = access
        self._job = job
        self._job_id = job_id
        self._files = files
        self._shelves = shelves
        self._hadoop_id = f"{time.strftime('%Y%m%d%H%M')}_{secrets.randbelow(10**9):09d}"

    def task(self, state: JobState, attempt: Attempt) -> TaskInfo:
        """A task that is ready to be launched. The attempt gets the key that will seal its report."""
        attempt.key = secrets.token_hex()
        is_map = attempt.work.kind is Kind.MAP
        description: dict[str, Any] = {
            "id": attempt.task_id,
            "key": attempt.key,
            "kind": "map" if is_map else "reduce",
            "set": f"job-{self._job_id}",
            "data": self._data,
            "files": self._files,
            "shelves": [
                self._pass(slave_id, f"{self._data}/job-{self._job_id}") for slave_id in self._shelves
            ],
            "reduces": len(state.reduces),
            "job": self._variables(state, attempt),
            "environment": dict(self._job.environment),
            "umask": self._job.umask,
            "keys": dict(self._job.keys),
            "any_status": self._job.any_status,
            "ended_by": self._job.ended_by,
            **(self._map(attempt) if is_map else self._reduce(state, attempt)),
        }
        return TaskInfo(
            attempt.task_id,
            state.rules.resources,
            EXECUTOR_ID,
            CommandInfo(shell=RUN, environment=pack(description)),
            time_limit_s=attempt.time_limit_s,
            name=f"{self._job.title} {'map' if is_map else 'reduce'} {attempt.work.index}",
        )

    def _map(self, attempt: Attempt) -> dict[str, Any]:
        split = attempt.work.split
        assert split is not None
        return {
            "mapper": self._job.mapper,
            "combiner": self._job.combiner,
            "reads_pieces": self._job.reads_pieces,
            "pieces": split.pieces,
            "block": split.block,
            "sha256": split.sha256,
            "places": [
                (slave_id, self._pass(slave_id, f"{self._data}/{split.block}"))
                for slave_id, _ in split.places
            ],
            "sort_bytes": min(MOST_SORT_BYTES, max(LEAST_SORT_BYTES, self._job.resources().mem_bytes // 4)),
        }

    def _reduce(self, state: JobState, attempt: Attempt) -> dict[str, Any]:
        bounds = [None, *(key.decode("latin-1") for key in state.boundaries or ()), None]
        containers: dict[str, int] = {}
        doors: list[tuple[FilesPass, str]] = []
        maps, index_digests = [], b""
        by_key = False
        for work in state.maps:
            output = work.output
            assert output is not None
            container = containers.setdefault(output.container_id, len(containers))
            if container == len(doors):
                path = f"/containers/{output.container_id}"
                doors.append((self._pass(output.slave_id, path), output.container_id))
            maps.append((container, output.task_id, output.size))
            index_digests += bytes.fromhex(output.report.get("index_sha256", "00" * DIGEST_BYTES))
            by_key = by_key or bool(output.report.get("tabs", True))
        return {
            "reducer": self._job.reducer,
            "low": bounds[attempt.work.index],
            "high": bounds[attempt.work.index + 1],
            "containers": doors,
            "maps": maps,
            "index_digests": base64.b64encode(index_digests).decode(),
            # A file that was sorted by whole lines, none of which has a TAB, is also sorted by key.
            "by_key": by_key,
        }

    def _pass(self, slave_id: str, path: str) -> FilesPass:
        return self._access(slave_id).narrowed(path)

    def _variables(self, state: JobState, attempt: Attempt) -> dict[str, str]:
        letter, index = attempt.work.kind.value, attempt.work.index
        task = f"{self._hadoop_id}_{letter}_{index:06d}"
        return {
            "mapreduce_job_id": f"job_{self._hadoop_id}",
            "mapreduce_job_name": self._job.title,
            "mapreduce_job_maps": str(len(state.maps)),
            "mapreduce_job_reduces": str(len(state.reduces)),
            "mapreduce_task_id": f"task_{task}",
            "mapreduce_task_attempt_id": f"attempt_{task}_{attempt.number}",
            "mapreduce_task_ismap": "true" if attempt.work.kind is Kind.MAP else "false",
            "mapreduce_task_partition": str(index),
        }


def cleaning(job_id: str, number: int) -> TaskInfo:
    """A small task that removes everything but the logs that a job's tasks have left on a slave."""
    return TaskInfo(
        f"clean-{job_id}.{number}",
        CLEAN_RESOURCES,
        EXECUTOR_ID,
        CommandInfo(shell=CLEAN.format(job=job_id)),
        time_limit_s=CLEAN_LIMIT_S,
        name="clean up",
    )
