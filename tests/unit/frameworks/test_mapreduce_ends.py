"""A job's Python functions in their process: if they end or fork it too early, the task fails and no record is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from offerd_frameworks.mapreduce import task
from offerd_frameworks.mapreduce.functions import ENDED, PICKLE, Functions

LINES = [f"line {number}".encode() for number in range(20_000)]
LIMIT_S = 60.0


def run_map(directory: Path, function: Callable[[str], Iterable[tuple[Any, Any]]]) -> tuple[bytes, bytes]:
    """Run a map over all lines, without a reduce, in a process of its own as on a slave; returns its output and its log."""
    pickle = directory / "pickle"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pickle.write_bytes(cloudpickle.dumps(Functions(function)))
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    file = directory / "in"
    file.write_bytes(b"".join(line + b"\n" for line in LINES))
    packed = task.pack(
        {
            "id": "t", "key": "k", "set": "job-j", "files": {}, "shelves": [], "data": "/data/@", "job": {},
            "environment": {}, "kind": "map", "combiner": "", "reads_pieces": True, "ended_by": ENDED,
            "mapper": f"mv {pickle} {PICKLE}; exec {sys.executable} -m offerd_frameworks.mapreduce.functions map", "places": [],
            "pieces": [[str(file), 0, file.stat().st_size, 0]], "block": "", "sort_bytes": 4 << 20, "reduces": 0,
        }
    )  # fmt: skip
    here = {"OFFERD_SLAVE_ID": "s", "OFFERD_CONTAINER_ID": "c", "OFFERD_DATA_DIR": "/"}
    done = subprocess.run(
        [sys.executable, "-m", "offerd_frameworks.mapreduce.task"],
        cwd=directory, env={**os.environ, **packed, **here}, capture_output=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    output = directory / "output"
    return output.read_bytes() if done.returncode == 0 else b"", done.stderr


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda: sys.exit(), b"a function has called sys.exit(None); it ends by returning"),
        (lambda: os._exit(0), b"the mapper exited before it had done everything"),
        (lambda: os.execvp("true", ["true"]), b"the mapper exited before it had done everything"),
    ],
)
def test_a_function_that_ends_its_process_with_status_0_fails_the_task(
    tmp_path: Path, end: Callable[[], object], why: bytes
) -> None:
    def ends(line: str) -> Iterator[tuple[str, int]]:
        if line == "line 15000":
            end()
        yield line, 1

    output, log = run_map(tmp_path, ends)
    assert output == b""
    assert why in log


@pytest.mark.parametrize("has_enough", [lambda: None, lambda: sys.exit(0)])
def test_a_child_that_a_function_forks_takes_and_writes_nothing(
    tmp_path: Path, has_enough: Callable[[], object]
) -> None:
    def forks(line: str) -> Iterator[tuple[str, str]]:
        if line == "line 15000":
            if pid := os.fork():
                os.waitpid(pid, 0)
            else:
                has_enough()
        yield line, "x"

    output, log = run_map(tmp_path, forks)
    assert output.splitlines() == [line + b"\tx" for line in LINES], log
