"""How `offerd demo` works: a real cluster, real work, a check against a count without any cluster, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import as_completed
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from offerd.cluster_executor import ClusterExecutor
from offerd.errors import OfferdError
from offerd.messages import TaskState
from offerd.operator import OperatorClient
from offerd_cli import doctor, render
from offerd_cli.local_cluster import LocalCluster
from offerd_cli.plot import plot, resample
from offerd_cli.screen import Screen
from offerd_cli.sweep import members
from offerd_cli.units import format_bytes, format_duration
from offerd_cli.wordcount import SHELL_COUNT, chunks, count_words, library_sources, parse_counts

CHUNKS = 240
SAMPLE_S = 0.1
PLOT_COLUMNS, PLOT_ROWS = 64, 4
CPUS_PER_TASK = "0.25"
TOP_WORDS = 8

Counts = dict[bytes, int]


class Timed(NamedTuple):
    """A count and how long it took."""

    counts: Counts
    seconds: float


def demonstrate(slaves: int, isolation: str) -> int:
    """Run the demo; returns the exit status."""
    out = render.console()
    began = time.monotonic()
    out.print(Text("offerd: a cluster on this host, and a real job on it\n", style="bold"))
    sources = library_sources()
    lists = chunks(sources, CHUNKS)
    size = sum(path.stat().st_size for path in sources)
    _step(
        out,
        "input",
        f"Python's standard library: {len(sources)} files, {format_bytes(size)}, in {len(lists)} parts",
    )
    cluster = LocalCluster(slaves, isolation=isolation)
    starting = time.monotonic()
    with cluster:
        _introduce(out, cluster, time.monotonic() - starting)
        alone = _alone(out, lists)
        with Utilization(cluster.address) as utilization:
            by_map = _by_map(out, cluster, lists)
            by_calls = _by_calls(out, cluster, lists)
        out.print()
        all_agree = _compare(out, alone, {"offerd map": by_map, "ClusterExecutor": by_calls})
        _where_tasks_ran(out, cluster)
        utilization.draw(out)
    stopping = time.monotonic()
    left = members(cluster.base)
    is_clean = not left and not cluster.base.exists()
    out.print()
    _step(
        out,
        "stopped",
        "no process and no file is left" if is_clean else f"LEFT BEHIND: {left or cluster.base}",
    )
    _step(out, "in all", format_duration(stopping - began))
    return 0 if all_agree and is_clean else 1


def _step(out: Console, what: str, text: str, style: str = "") -> None:
    """A line with its subject in front; long text goes on below itself."""
    line = Table.grid(padding=0)
    line.add_column(width=16, style="bold cyan")
    line.add_column(style=style, overflow="fold")
    line.add_row(what, text)
    render.print_table(out, line)


def _introduce(out: Console, cluster: LocalCluster, seconds: float) -> None:
    with cluster.ask() as client:
        module = next(iter(client.slaves())).info.isolation
    cpus = cluster.slave_resources.millicpus / 1000
    host_cpus = len(os.sched_getaffinity(0))
    promised = cpus * len(cluster.slaves)
    note = f" (this host has {host_cpus}: they share)" if promised > host_cpus else ""
    _step(
        out,
        "cluster",
        f"master and {len(cluster.slaves)} slaves of {cpus:g} cpus{note}, up in {format_duration(seconds)}",
    )
    _explain_isolation(out, module)


def _explain_isolation(out: Console, module: str) -> None:
    """What the module does, and what keeps this host from a better one."""
    what = {
        "cgroups": "each task in a cgroup of its own, with limits on cpu and memory",
        "docker": "executors in containers, with limits on cpu and memory",
        "noop": "process trees, ended as a whole; no limits on cpu and memory",
    }
    _step(out, "isolation", f"{module}: {what.get(module, 'a module of somebody else')}")
    if module != "noop":
        return
    for finding in (doctor.check_cgroups(), doctor.check_docker()):
        if not finding.ok:
            _step(out, "", f"no {finding.check} here: {finding.found}", "dim")


def _alone(out: Console, lists: list[list[str]]) -> Timed:
    """The count that the others must agree with: this process, no cluster."""
    began = time.monotonic()
    counts = count_words([path for part in lists for path in part])
    seconds = time.monotonic() - began
    _step(
        out,
        "one process",
        f"{sum(counts.values()):,} words, {len(counts):,} different, in {format_duration(seconds)}",
    )
    return Timed(counts, seconds)


def _by_map(out: Console, cluster: LocalCluster, lists: list[list[str]]) -> Timed:
    """One shell pipeline for each part, by the very command that a person would type."""
    folder = cluster.base / "lists"
    folder.mkdir()
    # Tasks may run as another user, and all of this is public.
    folder.chmod(0o755)
    files = []
    for number, part in enumerate(lists):
        file = folder / f"{number:03d}"
        file.write_text("".join(f"{path}\n" for path in part))
        files.append(str(file))
    words = ["map", "--cpus", CPUS_PER_TASK, "--name", "count", "--", "sh", "-c", SHELL_COUNT, "count"]
    shown = " ".join([*words[:6], "sh", "-c", f"'{SHELL_COUNT}'", "count", ":::", f"{folder.name}/*"])
    _step(out, "offerd map", f"$ offerd {shown}", "dim")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "offerd_cli.main", *words, "::::", "-"],
        input="\n".join(files).encode(),
        stdout=subprocess.PIPE,
        env={**os.environ, "OFFERD_MASTER": cluster.address},
        check=False,
    )
    if done.returncode != 0:
        raise OfferdError(f"offerd map ended with status {done.returncode}")
    counts = parse_counts(done.stdout)
    seconds = time.monotonic() - began
    _step(
        out,
        "",
        f"{len(files)} processes, {format_bytes(len(done.stdout))} of output, in {format_duration(seconds)}",
    )
    return Timed(counts, seconds)


def _by_calls(out: Console, cluster: LocalCluster, lists: list[list[str]]) -> Timed:
    """One Python call for each part, in the executors' long-lived workers."""
    _step(out, "ClusterExecutor", ">>> [executor.submit(count_words, part) for part in parts]", "dim")
    screen = Screen("offerd demo")
    began = time.monotonic()
    counts: Counter[bytes] = Counter()
    with ClusterExecutor(
        cluster.address, cpus=float(CPUS_PER_TASK), mem="32M", timeout=60, name="count"
    ) as executor:
        futures = [executor.submit(count_words, part) for part in lists]
        for number, future in enumerate(as_completed(futures), 1):
            counts.update(future.result())
            screen.progress(number, len(futures))
        screen.end_progress()
    seconds = time.monotonic() - began
    _step(out, "", f"{len(lists)} calls in {format_duration(seconds)}")
    return Timed(dict(counts), seconds)


def _compare(out: Console, alone: Timed, others: dict[str, Timed]) -> bool:
    """Say whether every count is the one of the single process."""
    all_agree = True
    for name, timed in others.items():
        if timed.counts == alone.counts:
            _step(out, name, f"✓ the same count, word for word ({_beside(timed, alone)})")
            continue
        all_agree = False
        wrong = {
            word
            for word in {*timed.counts, *alone.counts}
            if timed.counts.get(word) != alone.counts.get(word)
        }
        example = min(wrong)
        out.print(
            Text(
                f"{name}: ✗ {len(wrong)} words differ, as {example.decode()}: {timed.counts.get(example, 0)} instead of "
                f"{alone.counts.get(example, 0)}",
                style="bold red",
            )
        )
    top = sorted(alone.counts.items(), key=lambda pair: -pair[1])[:TOP_WORDS]
    _step(out, "most common", ", ".join(f"{word.decode()} {number:,}" for word, number in top))
    return all_agree


def _beside(timed: Timed, alone: Timed) -> str:
    return f"{format_duration(timed.seconds)}; one process {format_duration(alone.seconds)}"


def _where_tasks_ran(out: Console, cluster: LocalCluster) -> None:
    """Which slave ran how many tasks of which framework, as the master remembers it."""
    ran: Counter[tuple[str, str]] = Counter()
    seconds: dict[str, float] = {}
    with cluster.ask() as client:
        kinds = {framework.framework_id: "" for framework in client.frameworks(ended=True)}
        for task in client.tasks():
            if task.state is TaskState.FINISHED:
                kinds[task.framework_id] = "calls" if task.executor_id == "python" else "processes"
                ran[task.hostname, kinds[task.framework_id]] += 1
                seconds[task.hostname] = seconds.get(task.hostname, 0.0) + task.ran_s
    table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 3, 0, 0))
    table.add_column("WHERE TASKS RAN")
    for title in ("PROCESSES", "CALLS", "TASK SECONDS"):
        table.add_column(title, justify="right")
    table.add_column("")
    most = max((ran[host, "processes"] + ran[host, "calls"] for host in seconds), default=1)
    for host in sorted(seconds):
        processes, calls = ran[host, "processes"], ran[host, "calls"]
        share = render.bar((processes + calls) / most, 20)
        table.add_row(host, str(processes), str(calls), f"{seconds[host]:.1f}", Text(share, style="cyan"))
    out.print()
    render.print_table(out, table)


class Utilization:
    """Samples how much of the cluster's cpus is allocated, from a thread of its own, while it is entered."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="offerd-utilization", daemon=True)

    def __enter__(self) -> Utilization:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        with OperatorClient(self._address) as client:
            while not self._over.wait(SAMPLE_S):
                cluster = client.cluster()
                total = cluster.total.millicpus
                self._samples.append((time.monotonic(), cluster.used.millicpus / total if total else 0.0))

    def draw(self, out: Console) -> None:
        """The samples as a plot, with axes."""
        if not self._samples:
            return
        lines = plot(resample(self._samples, PLOT_COLUMNS), PLOT_ROWS)
        out.print()
        out.print(Text("CPUS ALLOCATED OVER TIME", style="bold dim"))
        for number, line in enumerate(lines):
            label = "100%" if number == 0 else "  0%" if number == len(lines) - 1 else "    "
            out.print(Text.assemble((f"{label} ", "dim"), (line, "green")))
        length = format_duration(self._samples[-1][0] - self._samples[0][0])
        out.print(Text(f"     0s{length:>{PLOT_COLUMNS - 2}}", style="dim"))
