"""What cgroup v2 costs and gains on a real kernel, here or in a guest booted for it. In a guest only ratios have a meaning.

Compared are: a task in its own cgroup and the same task in none, through the same executor; the end of a task with 100
processes and the kernel's part of it; an HTTP server beside a task of 256 busy processes, with isolation and without.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from figures import Bound, Findings, Row, Samples, beside  # noqa: E402
from helpers.guest import Guest, GuestFailed, host_has_v2, missing  # noqa: E402
from helpers.kernel_bed import KernelBed, kernel_bed, leaf, wait_until  # noqa: E402
from offerd.ids import TaskID  # noqa: E402
from offerd.messages import CommandInfo  # noqa: E402
from offerd_master.settings import MasterSettings  # noqa: E402

GUEST_LIMIT_S = 900.0
PROCESSES = 100
SPINNERS = 256
HTTP_RUNS = 3
REST_S = 0.01
"""Pause between requests, so that the server asks for less than its half of the processor: isolation can guarantee only that.
"""
PINNED = "taskset -cp 0 $$ >/dev/null;"
PATIENT = MasterSettings(max_missed_pings=1000)
"""Without isolation the busy processes starve the slave, too: it answers no ping for a minute."""
STARVED_S = 300.0
"""How long such a slave may take to end them."""
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def measure(quick: bool) -> Findings:
    """Raises `RuntimeError` if there is no such kernel."""
    host_spawn_ms = _spawn_ms(300)
    found = _in_place(quick) if host_has_v2() else _in_guest(quick)
    # In units of a fork, exec and wait, because that is what emulation slows down.
    as_here = [ms / found["spawn_ms"][0] * host_spawn_ms for ms in found["teardown_ms"]]
    costs = beside(found["in_cgroup_ms"], found["bare_ms"])
    rows = [
        Row("/bin/true as a task, in its own cgroup", "ms", Samples.of(found["in_cgroup_ms"]),
            Samples.of(found["bare_ms"]), "in none", costs, Bound(1.5, at_least=False, of_ratio=True)),
        Row(f"kill of a task with {PROCESSES} processes until its cgroup is gone", "ms",
            Samples.of(found["teardown_ms"]), Samples.of(found["spawn_ms"]), "one fork, exec and wait",
            None, Bound(100, at_least=False)),
        Row("the same, if a fork, exec and wait took as long there as here", "ms", Samples.of(as_here),
            Samples.of([host_spawn_ms]), "here", None, Bound(100, at_least=False)),
        Row(f"the kernel's part of the first: cgroup.kill of {PROCESSES}, until it is empty and removed", "ms",
            Samples.of(found["bare_teardown_ms"])),
        Row(f"an HTTP request, {SPINNERS} processes spinning on the server's processor, isolated", "ms",
            Samples.of(found["isolated_http_ms"]), Samples.of(found["isolated_alone_ms"]), "alone",
            beside(found["isolated_http_ms"], found["isolated_alone_ms"]),
            Bound(1.10, at_least=False, of_ratio=True)),
        Row("... of which the server waits for the processor", "ms", Samples.of(found["isolated_waited_ms"])),
        Row("the same without isolation", "ms", Samples.of(found["noop_http_ms"]),
            Samples.of(found["noop_alone_ms"]), "alone", beside(found["noop_http_ms"], found["noop_alone_ms"])),
        Row("... of which the server waits for the processor", "ms", Samples.of(found["noop_waited_ms"])),
        Row("isolated, requests without a pause: the server wants more than its half", "ms",
            Samples.of(found["isolated_busy_http_ms"]), Samples.of(found["isolated_busy_alone_ms"]), "alone",
            beside(found["isolated_busy_http_ms"], found["isolated_busy_alone_ms"])),
    ]  # fmt: skip
    note = (
        ""
        if host_has_v2()
        else "In an emulated guest, some ten to forty times slower than this host: read the ratios."
    )
    return Findings(rows, [note] if note else [])


def _in_guest(quick: bool) -> dict[str, list[float]]:
    if reason := missing():
        raise RuntimeError(reason)
    try:
        with Guest([".venv/bin/python", "bench/kernel.py", *(["--quick"] if quick else [])]) as guest:
            guest.wait_booted()
            line = guest.read(GUEST_LIMIT_S)
            if line is None or not line.startswith("{"):
                raise RuntimeError(f"nothing was measured in the guest\n{guest.console()}")
            found: dict[str, list[float]] = json.loads(line)
            return found
    except GuestFailed as error:
        raise RuntimeError(str(error)) from None


def _in_place(quick: bool) -> dict[str, list[float]]:
    count, pairs = (40, 2) if quick else (100, 4)
    found: dict[str, list[float]] = {name: [] for name in ("in_cgroup_ms", "bare_ms")}
    with kernel_bed() as own, kernel_bed(isolation="noop", master_settings=PATIENT) as bare:
        beds: tuple[tuple[str, KernelBed], ...] = (("in_cgroup_ms", own), ("bare_ms", bare))
        for run in range(-1, pairs):  # the first run starts the executors, and does not count
            for name, bed in beds:
                took_ms = _run_true(bed, f"{name}-{run}", 5 if run < 0 else count)
                if run >= 0:
                    found[name].append(took_ms)
        found["spawn_ms"] = [_spawn_ms(30)]
        found["teardown_ms"] = [_teardown_ms(own, f"many-{n}") for n in range(3)]
        found["bare_teardown_ms"] = [_bare_teardown_ms() for _ in range(3)]
        requests = 30 if quick else 100
        found |= _http_ms(own, "isolated", requests, REST_S)
        found |= _http_ms(own, "isolated_busy", requests, 0.0)
        found |= _http_ms(bare, "noop", 10, REST_S)  # each may take a second without isolation
    return found


def _run_true(bed: KernelBed, name: str, count: int) -> float:
    started = time.perf_counter()
    for number in range(count):
        bed.framework.run(f"{name}-{number}", "", command=_command("/bin/true"), cpus=0.4)
    for number in range(count):
        bed.framework.wait_end(f"{name}-{number}")
    return 1000 * (time.perf_counter() - started) / count


def _command(*argv: str) -> CommandInfo:
    return CommandInfo(argv=list(argv))


def _spawn_ms(count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return 1000 * (time.perf_counter() - started) / count


def _teardown_ms(bed: KernelBed, name: str) -> float:
    bed.framework.run(name, f"for n in $(seq {PROCESSES - 1}); do sleep 1000 & done; wait", mem="256M")
    wait_until(lambda: _holds(leaf(name)) >= PROCESSES, "its processes are there")
    started = time.perf_counter()
    bed.framework.driver.kill_task(TaskID(name))
    wait_until(lambda: not leaf(name).exists(), "its cgroup is gone")
    took_ms = 1000 * (time.perf_counter() - started)
    bed.framework.wait_end(name)
    return took_ms


def _bare_teardown_ms() -> float:
    """The same number of processes in a cgroup of ours, without reports."""
    cgroup = Path("/sys/fs/cgroup/offerd-bench")
    cgroup.mkdir()
    words = f"echo $$ > {cgroup}/cgroup.procs; for n in $(seq {PROCESSES - 1}); do sleep 1000 & done; wait"
    with subprocess.Popen(["sh", "-c", words]):
        wait_until(lambda: _holds(cgroup) >= PROCESSES, "its processes are there")
        started = time.perf_counter()
        (cgroup / "cgroup.kill").write_text("1")
        wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "it is empty")
        cgroup.rmdir()
        return 1000 * (time.perf_counter() - started)


def _http_ms(bed: KernelBed, name: str, requests: int, rest_s: float) -> dict[str, list[float]]:
    """Means of many requests, with pauses of `rest_s`: alone, and beside the busy processes. And how long the server had to
    wait for a processor in each request: that depends on the kernel's scheduler, not on the speed of the processor.

    The server and the busy processes share one processor. This process has the other, as if it were on another host, so it
    waits only for the server.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = f"{PINNED} exec {sys.executable} -S -E -c {shlex.quote(SERVER)} {port}"
    bed.framework.run(f"{name}-server", server, cpus=1.0, mem="64M", limit_s=None)
    wait_until(lambda: _answers(port), "the server answers")
    os.sched_setaffinity(0, {1})
    try:
        alone = [_mean_ms(port, requests, rest_s)[0] for _ in range(HTTP_RUNS)]
        spin = f"{PINNED} for n in $(seq {SPINNERS - 1}); do (while :; do :; done) & done; echo > ready; while :; do :; done"
        bed.framework.run(f"{name}-spin", spin, cpus=1.0, mem="256M", limit_s=None, kill_grace_s=0.1)
        ready = f"containers/*/sandbox/tasks/{name}-spin/ready"
        wait_until(lambda: list(bed.work_dir.glob(ready)), "all of them have begun", 120.0)
        found = [_mean_ms(port, requests, rest_s) for _ in range(HTTP_RUNS)]
    finally:
        os.sched_setaffinity(0, {0, 1})
    for each in (f"{name}-spin", f"{name}-server"):
        bed.framework.driver.kill_task(TaskID(each))
    for each in (f"{name}-spin", f"{name}-server"):
        bed.framework.wait_end(each, STARVED_S)
    return {
        f"{name}_alone_ms": alone,
        f"{name}_http_ms": [took_ms for took_ms, _ in found],
        f"{name}_waited_ms": [waited_ms for _, waited_ms in found],
    }


def _answers(port: int) -> bool:
    try:
        _request(port)
    except ConnectionRefusedError:
        return False
    return True


def _mean_ms(port: int, requests: int, rest_s: float) -> tuple[float, float]:
    """Mean time of a request, and how much of it the server waits for a processor."""
    server = _listener(port)
    took_s, waited_ms = 0.0, _waited_ms(server)
    for _ in range(requests):
        time.sleep(rest_s)
        started = time.perf_counter()
        _request(port)
        took_s += time.perf_counter() - started
    return 1000 * took_s / requests, (_waited_ms(server) - waited_ms) / requests


def _listener(port: int) -> int:
    """The server's pid: the only process with this port among its arguments."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(
            FileNotFoundError, ProcessLookupError, NotADirectoryError
        ):  # the process has just ended
            if process.joinpath("cmdline").read_bytes().endswith(b"\0%d\0" % port):
                found.append(int(process.name))
    (pid,) = found
    return pid


def _waited_ms(pid: int) -> float:
    """The second number of schedstat, in nanoseconds; see Documentation/scheduler/sched-stats.rst."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e6


def _request(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while connection.recv(4096):
            pass


def _holds(cgroup: Path) -> int:
    try:
        return len((cgroup / "cgroup.procs").read_text().split())
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    with open(os.environ.get("OFFERD_GUEST_PORT", "/dev/stdout"), "w") as port:
        port.write(json.dumps(_in_place("--quick" in sys.argv)) + "\n")
