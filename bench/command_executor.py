"""How many `/bin/true` a second the command executor runs, and how many the kernel and posix_spawn alone allow.

python bench/command_executor.py [TASKS]
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.fake_slave import FakeSlave, task  # noqa: E402

IN_FLIGHT = 20
"""Tasks that run at once: two slots' worth of a slave with slots of 0.1 cpu."""


def plain(count: int) -> tuple[float, float]:
    """Tasks per second and CPU seconds of each: only posix_spawn and wait, with a few in flight."""
    before, started = _used(resource.RUSAGE_CHILDREN), time.perf_counter()
    own = time.process_time()
    flying = 0
    for _ in range(count):
        os.posix_spawn("/bin/true", ["true"], {}, setsid=True)
        flying += 1
        if flying >= 4:
            os.wait()
            flying -= 1
    while flying:
        os.wait()
        flying -= 1
    wall_s = time.perf_counter() - started
    cpu_s = _used(resource.RUSAGE_CHILDREN) - before + time.process_time() - own
    return count / wall_s, cpu_s / count


def executor(count: int) -> tuple[float, float]:
    """The same through the executor; CPU includes the tasks' exec and end."""
    with (
        tempfile.TemporaryDirectory() as directory,
        FakeSlave(Path(directory) / "sandbox", "offerd_executors.command") as slave,
    ):
        slave.wait_ended([slave.launch(task("warm", "/bin/true"))])
        ended = slave.ended
        own_s, tasks_s = _cpu_of(slave.pid)
        started = time.perf_counter()
        launched = 0
        while len(ended) <= count:
            while launched < count and launched - len(ended) + 1 < IN_FLIGHT:
                slave.launch(task(f"true-{launched}", "/bin/true"))
                launched += 1
            slave.turn(1.0)
        wall_s = time.perf_counter() - started
        own_s, tasks_s = (now - then for now, then in zip(_cpu_of(slave.pid), (own_s, tasks_s), strict=True))
        assert all(status.exit_status == 0 for status in ended.values())
        print(
            f"  {own_s / count * 1e6:.0f} us in the executor, {tasks_s / count * 1e6:.0f} us in the task, "
            f"{len(slave.updates) / (count + 1):.2f} updates a task",
            flush=True,
        )
        slave.shut_down()
    return count / wall_s, (own_s + tasks_s) / count


def _used(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _cpu_of(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = [int(field) for field in fields[11:15]]
    return sum(ticks[:2]) / os.sysconf("SC_CLK_TCK"), sum(ticks[2:]) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    for name, measure in (("posix_spawn alone", plain), ("command executor", executor)):
        rate, cpu_s = measure(count)
        print(f"{name:20} {rate:7.0f} tasks/s  {cpu_s * 1e6:6.0f} us CPU each", flush=True)


if __name__ == "__main__":
    main()
