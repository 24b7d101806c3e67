"""`ClusterExecutor` under CPython's own tests of executors (`helpers/cpython_executors.py`), a process for each class."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import environment
from helpers.cpython_suite import why_not_here
from offerd_cli.local_cluster import LocalCluster

CLASSES = [
    "TestWait", "TestShutdown", "TestAsCompleted", "TestDeadlock", "TestProcessPool", "TestInitializer",
    "TestFailingInitializer", "TestFuture",
]  # fmt: skip
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run all at once, as they spend most of their time in `time.sleep`."""
    if why := why_not_here():
        pytest.skip(why)
    with LocalCluster(slaves=1, cpus="4", mem="2G", isolation="noop") as cluster:
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        runs = {
            name: subprocess.Popen(
                [sys.executable, "-m", "unittest", "-v", f"helpers.cpython_executors.{name}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(cluster, PYTHONPATH=path),
            )
            for name in CLASSES
        }
        yield runs
        for run in runs.values():
            run.kill()
            run.communicate()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CLASSES)
def test_it_passes_cpythons_tests(runs: dict[str, subprocess.Popen[str]], name: str) -> None:
    said, _ = runs[name].communicate(timeout=360)
    assert runs[name].returncode == 0, said
