"""A reduce task: this partition's part of every map output, fetched, merged, and through the reducer."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from offerd import FilesPass
from offerd_frameworks.mapreduce import ranges
from offerd_frameworks.mapreduce.failures import ServerBusy, TokenRefused, TransferError, Unfetchable
from offerd_frameworks.mapreduce.map_task import INDEX, OUTPUT
from offerd_frameworks.mapreduce.streaming import (
    Reporter,
    Stage,
    end_last_line,
    job_environment,
    merge_words,
    pipe,
    scan,
    sort_environment,
)
from offerd_frameworks.mapreduce.transfer import Server

FETCHERS = 4


def run(task: dict[str, Any], reporter: Reporter, progress: Callable[..., None]) -> dict[str, Any]:
    """Do it in the current directory. Raises `Unfetchable`."""
    shuffle = Shuffle(task, progress)
    segments = shuffle.fetch()
    progress("reduce", shuffle.local_bytes + shuffle.remote_bytes)
    with open(OUTPUT, "w+b") as output:
        reading, merged = pipe()
        environment = job_environment(task["job"], task["environment"])
        reducer = Stage("reducer", task["reducer"], environment, reporter, reading, output)
        os.close(reading)
        # Without a file named, sort reads its standard input: that of a partition without a segment is empty.
        with open(os.devnull, "rb") as nothing:
            words = merge_words(segments, by_key=task["by_key"])
            merge = Stage("merge", words, sort_environment(), reporter, nothing, merged)
        os.close(merged)
        try:
            reducer.wait()
        finally:
            merge.reap()
        merge.wait(may_be_cut_off=True)
        end_last_line(output.fileno())
    for segment in segments:
        os.unlink(segment)
    return {
        "output_bytes": os.stat(OUTPUT).st_size,
        "output_records": scan(OUTPUT).lines,
        "shuffled_local_bytes": shuffle.local_bytes,
        "shuffled_remote_bytes": shuffle.remote_bytes,
    }


class Shuffle:
    """Brings the segments, from the same sandbox by a copy in the kernel, from elsewhere over HTTP, some at a time."""

    def __init__(self, task: dict[str, Any], progress: Callable[..., None]) -> None:
        self.local_bytes = 0
        self.remote_bytes = 0
        low, high = task["low"], task["high"]
        self._low = None if low is None else low.encode("latin-1")
        self._high = None if high is None else high.encode("latin-1")
        self._containers: list[tuple[list[str], str]] = task["containers"]
        self._maps: list[list[Any]] = task["maps"]
        self._progress = progress
        self._lock = threading.Lock()
        self._failed: dict[int, str] = {}

    def fetch(self) -> list[str]:
        """Names of the segments, sorted files in the order of the maps; empty ones left out.

        Raises `Unfetchable`, `ServerBusy`, and `OSError` of this host's disk.
        """
        by_container: dict[int, list[int]] = {}
        for number, (container, _, size) in enumerate(self._maps):
            if size:
                by_container.setdefault(container, []).append(number)
        # Each reduce in an order of its own: they begin at the same time, and would all be at one server.
        visits = random.sample(list(by_container.items()), len(by_container))
        with ThreadPoolExecutor(FETCHERS) as pool:
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
                    else RemoteOutput(server, f"/containers/{container_id}/tasks/{task_id}")
                )
                try:
                    count = self._bring(output, size, _segment(number))
                except (ServerBusy, TokenRefused):
                    raise  # what it holds is not lost: this task may be tried again, the maps need not
                except (TransferError, FileNotFoundError, ValueError) as error:
                    with self._lock:
                        # The rest of a server that is silent is not asked for: each question waits for seconds.
                        lost = (
                            numbers[numbers.index(number) :] if isinstance(error, TransferError) else [number]
                        )
                        self._failed.update(dict.fromkeys(lost, str(error)))
                    if isinstance(error, TransferError):
                        return
                    continue
                with self._lock:
                    if is_here:
                        self.local_bytes += count
                    else:
                        self.remote_bytes += count
                    self._progress("shuffle", self.local_bytes + self.remote_bytes)

    def _bring(self, output: MapOutput, size: int, target: str) -> int:
        index = ranges.unpack(output.index())
        start = ranges.find(index, size, self._low, output.read) if self._low is not None else 0
        end = ranges.find(index, size, self._high, output.read)
        if end <= start:
            return 0
        with open(target, "wb") as file:
            output.copy(file.fileno(), start, end - start)
            if (found := os.fstat(file.fileno()).st_size) != end - start:
                raise ValueError(f"{found} bytes came in place of {end - start}")
        return end - start


class MapOutput:
    """One map's output, wherever it is."""

    def index(self) -> bytes:
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def copy(self, target: int, offset: int, length: int) -> None:
        raise NotImplementedError


class LocalOutput(MapOutput):
    """In a sibling of our own working directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def index(self) -> bytes:
        with open(f"{self._directory}/{INDEX}", "rb") as file:
            return file.read()

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
    """Behind a slave's file server."""

    def __init__(self, server: Server, directory: str) -> None:
        self._server = server
        self._directory = directory

    def index(self) -> bytes:
        return self._server.read(f"{self._directory}/{INDEX}")

    def read(self, offset: int, length: int) -> bytes:
        return self._server.read(f"{self._directory}/{OUTPUT}", offset, length)

    def copy(self, target: int, offset: int, length: int) -> None:
        self._server.copy(f"{self._directory}/{OUTPUT}", target, offset, length)


def _segment(number: int) -> str:
    return f"segment-{number:05d}"
