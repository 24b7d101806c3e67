"""The cost of a trivial call in the python executor and its workers: CPU, rate at saturation, latency when idle.

python bench/python_executor.py [CALLS]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from offerd.messages import TaskState
from offerd.python_calls import calls

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.fake_slave import FakeSlave, task  # noqa: E402

IN_FLIGHT = 200


def nothing() -> None:
    """The call."""


def cpu_s_of(pids: list[int]) -> float:
    """CPU seconds of these processes together, exact to about a microsecond."""
    total_ns = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            total_ns += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total_ns / 1e9


def saturate(slave: FakeSlave, count: int) -> None:
    """Keep `IN_FLIGHT` calls at the executor."""
    call = calls.pack_call(nothing)
    ended = slave.ended
    already, updates = len(ended), len(slave.updates)
    executor_before_s, workers_before_s = cpu_s_of([slave.pid]), cpu_s_of(slave.children())
    started = time.perf_counter()
    launched = 0
    while len(ended) - already < count:
        while launched < count and launched - (len(ended) - already) < IN_FLIGHT:
            slave.launch(task(f"call-{already + launched}", data=call))
            launched += 1
        slave.turn(1.0)
    wall_s = time.perf_counter() - started
    workers = slave.children()
    executor_us = (cpu_s_of([slave.pid]) - executor_before_s) / count * 1e6
    workers_us = (cpu_s_of(workers) - workers_before_s) / count * 1e6
    assert all(status.state is TaskState.FINISHED for status in ended.values())
    print(
        f"{count / wall_s:7.0f} calls/s  {executor_us:5.1f} us CPU in the executor + {workers_us:5.1f} us in "
        f"{len(workers)} workers, {(len(slave.updates) - updates) / count:.2f} updates a call",
        flush=True,
    )


def alone(slave: FakeSlave, count: int) -> None:
    """One call at a time: launch to RUNNING and launch to FINISHED, as the slave sees them."""
    call = calls.pack_call(nothing)
    running_ms, ended_ms = [], []
    for number in range(count):
        started = time.perf_counter()
        task_id = slave.launch(task(f"alone-{number}", data=call))
        while task_id not in slave.running and task_id not in slave.ended:
            slave.turn(1.0)
        running_ms.append((time.perf_counter() - started) * 1e3)
        slave.wait_ended([task_id])
        ended_ms.append((time.perf_counter() - started) * 1e3)
    for name, values in (("RUNNING", running_ms), ("FINISHED", ended_ms)):
        p50, p99 = statistics.median(values), statistics.quantiles(values, n=100)[98]
        print(f"one call, launch to {name:8}: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    with (
        tempfile.TemporaryDirectory() as directory,
        FakeSlave(Path(directory) / "sandbox", "offerd_executors.python") as slave,
    ):
        saturate(slave, min(count, 2000))  # warm
        saturate(slave, count)
        alone(slave, 500)
        slave.shut_down()


if __name__ == "__main__":
    main()
