"""How `offerd demo` works: frameworks side by side on a real cluster, checked against one process, with a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from offerd.credentials.keys import KEY_VARIABLE, MASTER_KEY_VARIABLE
from offerd.errors import OfferdError
from offerd.messages import TaskState
from offerd_cli import doctor, mpi_demo, render
from offerd_cli.bars import bar
from offerd_cli.local_cluster import OFFERD, LocalCluster
from offerd_cli.shares import Shares
from offerd_cli.sweep import members
from offerd_cli.units import format_bytes, format_duration
from offerd_cli.web_access import INSTALL, is_installed
from offerd_cli.wordcount import MAPPER, REDUCER, add, count_words, library_sources, read_counts, words
from offerd_frameworks import mapreduce

SET = "library"
BLOCK_SIZE = "1M"
COMMANDS, FUNCTIONS = "commands", "functions"
CPUS_PER_TASK = "0.5"
REDUCES = 3
TOP_WORDS = 8
DEADLINE_S = 120.0

Counts = dict[bytes, int]


class Timed(NamedTuple):
    """A count, and how long it took."""

    counts: Counts
    seconds: float


def demonstrate(slaves: int, isolation: str, *, keeps: bool = False) -> int:
    """Run the demo; returns the exit status. With `keeps` the cluster stays up after it, until Ctrl-C."""
    for name in (KEY_VARIABLE, MASTER_KEY_VARIABLE):
        os.environ.pop(name, None)  # these keys belong to another cluster; this one has its own
    out = render.console()
    began = time.monotonic()
    out.print(Text("offerd: a cluster on this host, and frameworks that share it", style="bold"))
    out.print()
    sources = library_sources()
    size = sum(path.stat().st_size for path in sources)
    _step(out, "input", f"Python's standard library: {len(sources)} files, {format_bytes(size)}")
    cluster = LocalCluster(slaves, isolation=isolation, web_port=0 if is_installed() else None)
    starting = time.monotonic()
    with cluster:
        _introduce(out, cluster, time.monotonic() - starting)
        alone = _alone(out, sources)
        _put(out, cluster, sources)
        with Shares(cluster.address) as shares:
            heat = _begin_heat(out, cluster)
            counts = _side_by_side(out, cluster)
            heat_agrees = heat is None or _check_heat(out, heat)
        out.print()
        all_agree = _compare(out, alone, counts) and heat_agrees
        _where_tasks_ran(out, cluster)
        shares.draw(out)
        if keeps:
            _wait_for_the_end(out, cluster)
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
    """Print a line with its subject in front; long text continues below itself."""
    line = render.ScreenTable.grid(padding=0)
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
    note = f" (this host has {host_cpus}, which they share)" if promised > host_cpus else ""
    _step(
        out,
        "cluster",
        f"master and {len(cluster.slaves)} slaves of {cpus:g} cpus{note}, up in {format_duration(seconds)}",
    )
    _explain_isolation(out, module)
    if cluster.web_address:
        _step(out, "in a browser", cluster.web_address)
    else:
        _step(out, "in a browser", f"not here: {INSTALL} brings the page along", "dim")


def _wait_for_the_end(out: Console, cluster: LocalCluster) -> None:
    """Leave the cluster up, to be looked at."""
    out.print()
    _step(out, "still up", f"{cluster.web_address or cluster.address} until Ctrl-C")
    with suppress(KeyboardInterrupt):
        signal.pause()


def _explain_isolation(out: Console, module: str) -> None:
    """Print what the module does, and why this host has no better one."""
    what = {
        "cgroups": "each task in a cgroup of its own, with limits on cpu and memory",
        "docker": "executors in containers, with limits on cpu and memory",
        "noop": "process trees, ended as a whole; no limits on cpu and memory",
    }
    _step(out, "isolation", f"{module}: {what.get(module, 'an external module')}")
    if module != "noop":
        return
    for finding in (doctor.check_cgroups(), doctor.check_docker()):
        if not finding.ok:
            _step(out, "", f"no {finding.check} here: {finding.found}", "dim")


def _alone(out: Console, sources: list[Path]) -> Timed:
    """Count in this process, without a cluster: the result with which the others must agree."""
    began = time.monotonic()
    counts = count_words(sources)
    seconds = time.monotonic() - began
    _step(
        out,
        "one process",
        f"{sum(counts.values()):,} words, {len(counts):,} different, in {format_duration(seconds)}",
    )
    return Timed(counts, seconds)


def _put(out: Console, cluster: LocalCluster, sources: list[Path]) -> None:
    """Place blocks of the files on the slaves' disks, with the command that a person would type."""
    _step(out, "data", f"$ offerd data put --block-size {BLOCK_SIZE} {SET} FILES", "dim")
    done = _offerd(cluster, "data", "put", "--block-size", BLOCK_SIZE, SET, *map(str, sources))
    said, _ = done.communicate(timeout=DEADLINE_S)
    if done.returncode != 0:
        raise OfferdError(f"offerd data put ended with status {done.returncode}")
    _step(out, "", said.decode().strip())


def _side_by_side(out: Console, cluster: LocalCluster) -> dict[str, Timed]:
    """The same count by two frameworks at the same time: by shell commands and by Python functions."""
    by_commands = cluster.base / COMMANDS
    line = ["mapreduce", "--mapper", MAPPER, "--reducer", REDUCER, "--input", f"data:{SET}"]
    line += ["--reduces", str(REDUCES), "--cpus", CPUS_PER_TASK, "--name", COMMANDS]
    _step(
        out,
        COMMANDS,
        f"$ offerd mapreduce --mapper '{MAPPER}' --reducer '{REDUCER}' --input data:{SET} ...",
        "dim",
    )
    _step(out, FUNCTIONS, f">>> mapreduce.run(words, add, combine=add, input='data:{SET}', ...)", "dim")
    began = time.monotonic()
    commands = _offerd(cluster, *line, "--output", str(by_commands))
    summary = mapreduce.run(
        words,
        add,
        combine=add,
        input=f"data:{SET}",
        output=cluster.base / FUNCTIONS,
        reduces=REDUCES,
        cpus=CPUS_PER_TASK,
        name=FUNCTIONS,
        master=cluster.address,
    )
    by_functions = Timed(read_counts(cluster.base / FUNCTIONS), time.monotonic() - began)
    said, _ = commands.communicate(timeout=DEADLINE_S)
    if commands.returncode != 0:
        raise OfferdError(f"offerd mapreduce ended with status {commands.returncode}")
    seconds = time.monotonic() - began
    for text in said.decode().splitlines():
        if text.startswith(("map ", "locality", "shuffle")):
            _step(out, "", text)
    locality = f"{summary.locality:.0%} of the maps read in place" if summary.locality is not None else ""
    _step(
        out, "", f"functions: {summary.maps} maps, {locality}, cluster {summary.utilization:.0%} used by them"
    )
    return {COMMANDS: Timed(read_counts(by_commands), seconds), FUNCTIONS: by_functions}


def _begin_heat(out: Console, cluster: LocalCluster) -> mpi_demo.Heat | None:
    """Start a rigid job beside the elastic ones: all of its ranks run, or none."""
    if missing := mpi_demo.missing():
        _step(out, "MPI", missing, "dim")
        return None
    _step(
        out,
        "MPI",
        f"$ offerd mpi {' '.join(mpi_demo.options(cluster))} -- ./heat {mpi_demo.POINTS} {mpi_demo.STEPS}",
        "dim",
    )
    return mpi_demo.begin(cluster)


def _check_heat(out: Console, heat: mpi_demo.Heat) -> bool:
    said, agrees = heat.check()
    _step(out, "MPI", f"{'✓ the same' if agrees else '✗ NOT the same'} plate as by one process: {said}")
    return agrees


def _offerd(cluster: LocalCluster, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*OFFERD, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "OFFERD_MASTER": cluster.address},
    )


def _compare(out: Console, alone: Timed, others: dict[str, Timed]) -> bool:
    """Print for each count whether it equals that of the single process; returns whether all do."""
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
    if any(timed.seconds > alone.seconds for timed in others.values()):
        _step(out, "", _why_slower(), "dim")
    _step(out, "most common", ", ".join(f"{word.decode()} {number:,}" for word, number in top))
    return all_agree


def _why_slower() -> str:
    """Why a cluster may be slower than one process here."""
    return (
        "one process is faster with so little text: all jobs, daemons and tasks share the "
        f"{len(os.sched_getaffinity(0))} cpus of this host. A cluster pays where there is more to do than one host can"
    )


def _beside(timed: Timed, alone: Timed) -> str:
    return f"{format_duration(timed.seconds)}; one process {format_duration(alone.seconds)}"


def _where_tasks_ran(out: Console, cluster: LocalCluster) -> None:
    """Print how many tasks of each framework ran on each slave, as the master remembers it."""
    ran: Counter[tuple[str, str]] = Counter()
    seconds: dict[str, float] = {}
    with cluster.ask() as client:
        names = {framework.framework_id: framework.name for framework in client.frameworks(ended=True)}
        for task in client.tasks():
            if task.state is TaskState.FINISHED:
                ran[task.hostname, names[task.framework_id]] += 1
                seconds[task.hostname] = seconds.get(task.hostname, 0.0) + task.ran_s
    kinds = sorted({name for _, name in ran})
    table = render.ScreenTable(box=None, pad_edge=False, header_style="bold dim", padding=(0, 3, 0, 0))
    table.add_column("WHERE TASKS RAN")
    for title in (*map(str.upper, kinds), "TASK SECONDS"):
        table.add_column(title, justify="right")
    table.add_column("")
    in_all = {host: sum(ran[host, kind] for kind in kinds) for host in seconds}
    most = max(in_all.values(), default=1)
    for host in sorted(seconds):
        cells = [str(ran[host, kind]) for kind in kinds]
        share = Text(bar(in_all[host] / most, 20), style="cyan")
        table.add_row(host, *cells, f"{seconds[host]:.1f}", share)
    out.print()
    render.print_table(out, table)
