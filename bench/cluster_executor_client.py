"""The cost of a call in `ClusterExecutor`'s own process: submit, accept, status, future and acknowledgement.

    python bench/cluster_executor_client.py [CALLS]

A fake master in a process of its own ends every task when it is accepted, so only the client is measured: CPU time of this
process per call (all its threads, with ZeroMQ's), and calls per second.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from offerd import ClusterExecutor
from offerd.messages import TaskInfo, TaskState, TaskStatus
from offerd.python_calls.calls import Inline, pack_result, pickle_value, unpack_call
from offerd.resources import Resources

BUDGET_US = 35.0
_RESULT = Inline(pickle_value(7))


def add(left: int, right: int) -> int:
    """Never called, because the fake master ends the task at once."""
    return left + right


def outcome(task: TaskInfo) -> TaskStatus:
    return TaskStatus(
        task.task_id, TaskState.FINISHED, sequence=1, data=pack_result(_RESULT, unpack_call(task.data).key)
    )


def serve(pipe: Connection) -> None:
    """The process of the fake master."""
    sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]
    from helpers.fake_master import InstantCluster

    slaves = Resources.of(cpus=8, mem="64G")
    with InstantCluster(slaves, slaves=2, outcome=outcome, keeps=False) as cluster:
        pipe.send(cluster.address)
        pipe.recv()


def measure_rate(executor: ClusterExecutor, calls: int) -> tuple[float, float]:
    """CPU microseconds per call in this process, and calls per second of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    futures = [executor.submit(add, number, 1) for number in range(calls)]
    assert all(future.result() == 7 for future in futures)
    return (time.process_time() - cpu) / calls * 1e6, calls / (time.perf_counter() - wall)


def measure_round_trips(executor: ClusterExecutor, calls: int) -> list[float]:
    """Milliseconds from submit to result of calls made one after the other, each with its own offer, accept and result."""
    times = []
    for number in range(calls):
        start = time.perf_counter()
        executor.submit(add, number, 1).result()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main() -> int:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(there,))
    process.start()
    with ClusterExecutor(here.recv(), cpus=0.02, mem="1M", timeout=60) as executor:
        measure_rate(executor, calls // 10)
        costs, rates = zip(*(measure_rate(executor, calls) for _ in range(3)), strict=True)
        times = sorted(measure_round_trips(executor, 500))
    here.send(None)
    process.join()
    print(f"client: {min(costs):.1f} us CPU per call (budget {BUDGET_US:.0f}), {max(rates):,.0f} calls/s")
    p99 = times[len(times) * 99 // 100]
    print(f"round trip of one call: p50 {statistics.median(times):.2f} ms, p99 {p99:.2f} ms")
    return 0 if min(costs) <= BUDGET_US else 1


if __name__ == "__main__":
    sys.exit(main())
