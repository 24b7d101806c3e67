"""A reduce task: it fetches its partition of every map output, merges the parts, and runs the reducer."""

from __future__ import annotations

import base64
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import offerd
from offerd import FilesPass
from offerd_frameworks.mapreduce import digests, keys, ranges
from offerd_frameworks.mapreduce.digests import WrongDigest
from offerd_frameworks.mapreduce.failures import ServerBusy, TokenRefused, TransferError, Unfetchable
from offerd_frameworks.mapreduce.map_task import INDEX, OUTPUT
from offerd_frameworks.mapreduce.streaming import (
    Pump,
    Reporter,
    Stage,
    end_last_line,
    job_environment,
    merge_words,
    pipe,
    scan,
    sort_environment,
    through,
    write_all,
)
from offerd_frameworks.mapreduce.transfer import Server

FETCHERS = 4


def run(task: dict[str, Any], reporter: Reporter, progress: Callable[..., None]) -> dict[str, Any]:
    """Run the task in the current directory; returns its report. Raises `Unfetchable`."""
    shuffle = Shuffle(task, progress)
    segments = shuffle.fetch()
    progress("reduce", shuffle.local_bytes + shuffle.remote_bytes)
    job_keys = keys.read(task.get("keys", {}))
    keying: list[Pump] = []
    with open(OUTPUT, "w+b") as output:
        reading, merged = pipe()
        if not job_keys.is_usual:
            decorated, (reading, undecorated) = reading, pipe()
            keying.append(Pump(partial(through, job_keys.back, decorated, undecorated)))
        written = os.dup(output.fileno())
        if job_keys.reduce_separator != keys.TAB:
            target, (reduced, written) = written, pipe()
            keying.append(Pump(partial(through, job_keys.of_reduce, reduced, target)))
        environment = job_environment(task["job"], task["environment"])
        reducer = Stage(
            "reducer", task["reducer"], environment, reporter, reading, written,
            any_status=task.get("any_status", False), ended_by=task.get("ended_by", ""),
            umask=task.get("umask"),
        )  # fmt: skip
        os.close(reading)
        os.close(written)
        # Without a file name, sort would read its standard input, so a partition without segments gets an empty one.
        with open(os.devnull, "rb") as nothing:
            words = merge_words(segments, by_key=task["by_key"])
            merge = Stage("merge", words, sort_environment(), reporter, nothing, merged)
        os.close(merged)
        try:
            reducer.wait()
        finally:
            merge.reap()
            for pump in keying:
                pump.join()  # raises what went wrong, which has also cut off the reducer
        merge.wait(may_be_cut_off=True)
        end_last_line(output.fileno())
    for segment in segments:
        os.unlink(segment)
    return {
        "output_bytes": os.stat(OUTPUT).st_size,
        "output_records": scan(OUTPUT).lines,
        "output_sha256": digests.of_file(OUTPUT),
        "shuffled_local_bytes": shuffle.local_bytes,
        "shuffled_remote_bytes": shuffle.remote_bytes,
    }


class Shuffle:
    """Fetches the segments: from the same sandbox by a copy in the kernel, from elsewhere over HTTP, some at a time."""

    def __init__(self, task: dict[str, Any], progress: Callable[..., None]) -> None:
        self.local_bytes = 0
        self.remote_bytes = 0
        low, high = task["low"], task["high"]
        self._low = None if low is None else low.encode("latin-1")
        self._high = None if high is None else high.encode("latin-1")
        self._containers: list[tuple[list[str], str]] = task["containers"]
        self._maps: list[list[Any]] = task["maps"]
        self._digests = base64.b64decode(task["index_digests"])
        self._progress = progress
        self._lock = threading.Lock()
        self._failed: dict[int, str] = {}

    def fetch(self) -> list[str]:
        """Fetch everything; returns the names of the segments, sorted files in the order of the maps, without empty ones.

        Raises `Unfetchable`, `ServerBusy`, and `OSError` for errors of this host's disk.
        """
        by_container: dict[int, list[int]] = {}
        for number, (container, _, size) in enumerate(self._maps):
            if size:
                by_container.setdefault(container, []).append(number)
        # Each reduce uses another order: they start at the same time, and would all ask the same server first.
        visits = random.sample(list(by_container.items()), len(by_container))
        with offerd.Workers(FETCHERS, "fetching maps") as pool:
            for found in [pool.submit(self._from_container, *visit) for visit in visits]:
                found.result()
        if self._failed:
            raise Unfetchable(sorted(self._failed), next(iter(self._failed.values())))
        names = [_segment(number) for number in range(len(self._maps))]
        return [name for name in names if os.path.exists(name) and os.stat(name).st_size]

    def _from_container(self, container: int, numbers: list[int]) -> None:
        door, container_id = self._containers[container]
        is_here = container_id == os.environ["OFFERD_CONTAINER_ID"]
        with Server(FilesPass(*door)) as server:
            for number in numbers:
                _, task_id, size = self._maps[number]
                output: MapOutput = (
                    LocalOutput(f"../{task_id}")
                    if is_here and os.path.exists(f"../{task_id}/{OUTPUT}")
                    else RemoteOutput(
                        server,
                        f"/containers/{container_id}/tasks/{task_id}",
                        size,
                        self._index_digest(number),
                    )
                )
                try:
                    count = self._bring(output, size, _segment(number))
                except (ServerBusy, TokenRefused):
                    raise  # its outputs are not lost: retry this task, not the maps
                except (TransferError, FileNotFoundError, ValueError) as error:
                    # A server that does not answer is not asked again: each question waits for seconds.
                    is_silent = isinstance(error, TransferError) and not isinstance(error, WrongDigest)
                    lost = numbers[numbers.index(number) :] if is_silent else [number]
                    with self._lock:
                        self._failed.update(dict.fromkeys(lost, str(error)))
                    if is_silent:
                        return
                    continue
                with self._lock:
                    if is_here:
                        self.local_bytes += count
                    else:
                        self.remote_bytes += count
                    self._progress("shuffle", self.local_bytes + self.remote_bytes)

    def _index_digest(self, number: int) -> str:
        return self._digests[number * digests.DIGEST_BYTES : (number + 1) * digests.DIGEST_BYTES].hex()

    def _bring(self, output: MapOutput, size: int, target: str) -> int:
        index = output.index()
        start = ranges.find(index, size, self._low, output.read) if self._low is not None else 0
        end = ranges.find(index, size, self._high, output.read)
        if end <= start:
            return 0
        with open(target, "w+b") as file:
            output.copy(file.fileno(), start, end - start)
            if (found := os.fstat(file.fileno()).st_size) != end - start:
                raise ValueError(f"{found} bytes came in place of {end - start}")
        return end - start


class MapOutput:
    """One map's output, wherever it is."""

    def index(self) -> ranges.Index:
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def copy(self, target: int, offset: int, length: int) -> None:
        raise NotImplementedError


class LocalOutput(MapOutput):
    """An output in a sibling of our own working directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def index(self) -> ranges.Index:
        with open(f"{self._directory}/{INDEX}", "rb") as file:
            return ranges.unpack(file.read())

    def read(self, offset: int, length: int) -> bytes:
        with open(f"{self._directory}/{OUTPUT}", "rb") as file:
            file.seek(offset)
            return file.read(length)

    def copy(self, target: int, offset: int, length: int) -> None:
        with open(f"{self._directory}/{OUTPUT}", "rb") as file:
            while length:
                count = os.copy_file_range(file.fileno(), target, length, offset_src=offset)
                if not count:
                    raise ValueError(f"{self._directory}/{OUTPUT} is shorter than it was")
                offset += count
                length -= count


class RemoteOutput(MapOutput):
    """An output behind a slave's file server. The index is verified by its digest, and each step of the output by the index: a
    part is used only if the steps that it belongs to are what the map wrote.
    """

    def __init__(self, server: Server, directory: str, size: int, index_digest: str) -> None:
        self._server = server
        self._directory = directory
        self._size = size
        self._index_digest = index_digest
        self._index: ranges.Index = []
        self._steps: dict[int, bytes] = {}

    def index(self) -> ranges.Index:
        content = self._server.read(f"{self._directory}/{INDEX}")
        digests.check(digests.of_bytes(content), self._index_digest, f"the index of {self._directory}")
        self._index = ranges.unpack(content)
        return self._index

    def read(self, offset: int, length: int) -> bytes:
        """Read a whole step. It is kept, because the part that is copied next begins or ends in it."""
        if offset not in self._steps:
            content = self._server.read(f"{self._directory}/{OUTPUT}", offset, length)
            digests.check(digests.of_bytes(content), self._step(offset)[2], self._part(offset))
            self._steps[offset] = content
        return self._steps[offset]

    def copy(self, target: int, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            start, stop, _ = self._step(offset)
            if start == offset and stop <= end:
                last = end if end == self._size else self._step(end)[0]
                self._copy_steps(target, offset, last)
                offset = last
            else:
                piece = self.read(start, stop - start)[offset - start : end - start]
                write_all([piece], target)
                offset += len(piece)

    def _copy_steps(self, target: int, offset: int, end: int) -> None:
        written = os.lseek(target, 0, os.SEEK_CUR)
        self._server.copy(f"{self._directory}/{OUTPUT}", target, offset, end - offset)
        shift = written - offset
        while offset < end:
            _, stop, expected = self._step(offset)
            digests.check(
                digests.of_part(target, offset + shift, stop - offset), expected, self._part(offset)
            )
            offset = stop

    def _step(self, offset: int) -> tuple[int, int, str]:
        return ranges.step_at(self._index, self._size, offset)

    def _part(self, offset: int) -> str:
        return f"{self._server.address}{self._directory}/{OUTPUT} from byte {offset} on"


def _segment(number: int) -> str:
    return f"segment-{number:05d}"
