"""The programs in the documentation run unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import environment
from offerd_cli.local_cluster import LocalCluster

ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=2, cpus="2", mem="512M", isolation="noop") as cluster:
        yield cluster


def programs(document: str) -> list[str]:
    """The Python blocks of a document, in order."""
    return PROGRAM.findall((ROOT / document).read_text())


def run(cluster: LocalCluster, program: str, tmp_path: Path) -> str:
    file = tmp_path / "program.py"
    file.write_text(program)
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        env=environment(cluster),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_calls_on_the_cluster_give_the_sum(cluster: LocalCluster, tmp_path: Path) -> None:
    assert run(cluster, programs("README.md")[0], tmp_path) == "6\n"


def test_readme_framework_runs_its_three_tasks(cluster: LocalCluster, tmp_path: Path) -> None:
    said = run(cluster, programs("README.md")[1], tmp_path).splitlines()
    assert sorted(line for line in said if line.endswith("FINISHED")) == [
        f"hello-{i} FINISHED" for i in (1, 2, 3)
    ]


def test_guide_scheduler_runs_its_five_tasks(cluster: LocalCluster, tmp_path: Path) -> None:
    said = run(cluster, programs("docs/frameworks.md")[0], tmp_path).splitlines()
    assert sum(" FINISHED" in line for line in said) == 5


def test_guide_reader_prints_all_that_its_task_wrote(cluster: LocalCluster, tmp_path: Path) -> None:
    assert run(cluster, programs("docs/frameworks.md")[2], tmp_path) == "1\n2\n3\n4\n5\n"


def test_guide_executor_runs_as_a_program_of_a_framework(cluster: LocalCluster, tmp_path: Path) -> None:
    executor = tmp_path / "sleeper.py"
    executor.write_text("import offerd\n" + programs("docs/frameworks.md")[1])
    program = f"""
import offerd

SLEEPER = offerd.ExecutorInfo("sleeper", command=offerd.CommandInfo(argv=[{sys.executable!r}, {str(executor)!r}]))

class Naps(offerd.Scheduler):
    waiting = ["nap"]

    def resource_offers(self, driver, offers):
        need = offerd.Resources.of(cpus="0.1")
        if self.waiting:
            nap = offerd.TaskInfo(self.waiting.pop(), need, "sleeper", data=b"0.2", time_limit_s=20)
            driver.reply_to_offer(offers[0].offer_id, [nap])

    def status_update(self, driver, status):
        print(status.state.name, status.message)
        if status.state.terminal:
            driver.stop()

offerd.SchedulerDriver(Naps(), offerd.FrameworkInfo("naps", executors=[SLEEPER])).run()
"""
    assert run(cluster, program, tmp_path).splitlines() == ["RUNNING ", "FINISHED "]


INITIALIZED = """
import offerd

table = None

def prepare(factor):
    global table
    table = {number: number * factor for number in range(4)}

def look_up(number):
    return table[number]

with offerd.ClusterExecutor(cpus=0.5, timeout=30, max_workers=2, initializer=prepare, initargs=(10,)) as executor:
    print(list(executor.map(look_up, range(4))), list(executor.map(look_up, range(4), chunksize=2)))
"""


def test_values_set_by_an_initializer_are_visible_to_functions(cluster: LocalCluster, tmp_path: Path) -> None:
    assert run(cluster, INITIALIZED, tmp_path) == "[0, 10, 20, 30] [0, 10, 20, 30]\n"


LARGE = """
import os, time
import offerd

table = b""

def prepare(data):
    global table
    table = data

def compare(data):
    return data == table

def is_stored():
    return os.path.exists("calls") and os.listdir("calls") != []

data = os.urandom(8_000_000)
with offerd.ClusterExecutor(cpus=0.5, timeout=60, initializer=prepare, initargs=(data,)) as executor:
    print(executor.submit(compare, data).result(), executor.submit(bytes, data).result() == data)
    never = executor.submit(compare, bytes(200_000_000))
    while not never.running():
        time.sleep(0.01)
    never.cancel()
    while any(executor.map(lambda _: is_stored(), range(8))):
        time.sleep(0.05)
"""


def test_arguments_may_be_as_large_as_results_and_leave_nothing(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    assert run(cluster, LARGE, tmp_path) == "True True\n"
