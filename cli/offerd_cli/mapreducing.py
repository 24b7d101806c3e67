"""How `offerd mapreduce` shows a job: bars while it runs, a summary when it has ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from offerd.errors import OfferdError
from offerd_cli import render
from offerd_cli.exit_statuses import EXIT_INTERRUPTED, EXIT_TERMINATED
from offerd_cli.screen import logged_to, one_line, say
from offerd_cli.units import format_bytes, format_duration
from offerd_cli.waits import Reasons, sentence
from offerd_cli.working import Terminated, away_text, signals_interrupt
from offerd_frameworks import mapreduce
from offerd_frameworks.mapreduce.planner import REDUCE_BYTES_PER_S, REDUCE_LEAST_S, SHORT_S, TIMEOUT_GROWTH

WHO = "offerd mapreduce"
TURN_S = 0.1
CANCEL_WAIT_S = 10.0


def run_job(job: mapreduce.Job, master: str, *, user: str, role: str, attributes: Mapping[str, str]) -> int:
    """Run the job to its end; returns the exit status. Raises `OfferdError`."""
    job.check()
    with (
        signals_interrupt(),
        mapreduce.MapReduce(
            master, name=f"mapreduce {job.title}", user=user, role=role, attributes=attributes
        ) as framework,
    ):
        handle = framework.submit(job)
        if job.time_limit_s is None:
            say(f"{WHO}: {default_limits(job)}")
        try:
            with Bars() as bars, logged_to(bars):
                waits = Waits(framework, job, bars)
                while not handle.done():
                    bars.show(handle.progress)
                    waits.turn(handle.progress)
                    time.sleep(TURN_S)
                bars.show(handle.progress)
            print_summary(render.console(), handle.result())
        except KeyboardInterrupt as interrupt:
            running = handle.progress.maps_running + handle.progress.reduces_running
            if running and not framework.is_registered:
                tasks = f"{running} task{'s' * (running != 1)}"
                say(f"{WHO}: {away_text(tasks)}")
            handle.cancel()
            with contextlib.suppress(OfferdError, TimeoutError):
                handle.result(CANCEL_WAIT_S)
            return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
    return 0


class Waits:
    """Prints why no task of a job is running, once for each reason."""

    def __init__(self, framework: mapreduce.MapReduce, job: mapreduce.Job, bars: Bars) -> None:
        self._framework = framework
        self._job = job
        self._reasons = Reasons()
        self._last_reason = ""
        self._bars = bars

    def turn(self, now: mapreduce.Progress) -> None:
        if now.maps_running or now.reduces_running or not _has_open(now):
            self._reasons.rest()
            return
        answer = self._reasons.turn(lambda: self._framework.explain_waiting(self._job))
        if answer is not None and not answer.is_momentary and answer.why != self._last_reason:
            self._last_reason = answer.why
            self._bars.note(f"waiting: {sentence(answer)}")


def _has_open(now: mapreduce.Progress) -> bool:
    return now.maps_done < now.maps or now.reduces_done < now.reduces


def default_limits(job: mapreduce.Job) -> str:
    """The default time limits in words, so that nobody is surprised by a killed task."""
    reduces = (
        f", a reduce {REDUCE_LEAST_S:g} s and one for each {REDUCE_BYTES_PER_S >> 20} MiB"
        if job.reduces
        else ""
    )
    return (
        f"without --time-limit a map may take {SHORT_S:g} s{reduces}; a task that takes longer is killed and run again with "
        f"{TIMEOUT_GROWTH:g} times the limit"
    )


class Bars:
    """Three bars on stderr if that is a terminal: map, shuffle, reduce."""

    def __init__(self) -> None:
        console = render.console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:8}", style="bold cyan"),
            BarColumn(36),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {
            name: self._bars.add_task(name, total=1.0, text="") for name in ("map", "shuffle", "reduce")
        }

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Print one line, above the bars if there are any."""
        self._bars.console.print(Text(one_line(f"offerd mapreduce: {text}")), soft_wrap=True)

    def show(self, now: mapreduce.Progress) -> None:
        self._set("map", now.maps_done, now.maps, _tasks(now.maps_done, now.maps, now.maps_running))
        if now.reduces:
            amount = f"{format_bytes(now.shuffled_bytes)} of {format_bytes(now.shuffle_bytes)}"
            self._set("shuffle", now.shuffled_bytes, now.shuffle_bytes, amount if now.shuffled_bytes else "")
            self._set(
                "reduce",
                now.reduces_done,
                now.reduces,
                _tasks(now.reduces_done, now.reduces, now.reduces_running),
            )

    def _set(self, name: str, done: int, total: int, text: str) -> None:
        self._bars.update(self._tasks[name], completed=done / total if total else 0.0, text=text)


def _tasks(done: int, total: int, running: int) -> str:
    return f"{done}/{total}" + (f"  {running} running" if running else "")


def print_summary(out: Console, summary: mapreduce.Summary) -> None:
    """Print what was done, how local the data was, how much of the cluster was used, and the commands' own counters."""
    counters = summary.counters
    table = render.ScreenTable.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan")
    table.add_column(overflow="fold")
    table.add_row("output", f"{summary.output}: {_parts(summary)}, {_amount(counters, _last_side(summary))}")
    table.add_row("time", f"{format_duration(summary.elapsed_s)}, cluster {summary.utilization:.0%} used")
    table.add_row(
        "map",
        f"{_plural(summary.maps, 'task')}, {_amount(counters, 'map input')} in, {_amount(counters, 'map output')} out"
        f"; median {format_duration(summary.median_map_s)}",
    )
    if summary.locality is not None:
        local, remote = counters.get("local maps", 0), counters.get("remote maps", 0)
        table.add_row(
            "locality", f"{summary.locality:.0%}: {local} of {local + remote} maps read their block in place"
        )
    if summary.reduces:
        table.add_row(
            "reduce", f"{_plural(summary.reduces, 'task')}, median {format_duration(summary.median_reduce_s)}"
        )
        shuffled = [
            (counters.get(f"shuffled {where} bytes", 0), what)
            for where, what in (("local", "on the same slave"), ("remote", "between slaves"))
        ]
        table.add_row("shuffle", ", ".join(f"{format_bytes(amount)} {what}" for amount, what in shuffled))
    if summary.slowest_task:
        table.add_row(
            "slowest",
            f"{summary.slowest_task} on {summary.slowest_host}, {format_duration(summary.slowest_s)}",
        )
    if trouble := _trouble(counters):
        table.add_row("trouble", f"{trouble}; {format_duration(summary.wasted_s)} of work lost")
    for name, amount in counters.items():
        if ":" in name:
            table.add_row("counter", Text(f"{name.replace(':', ' / ', 1)} = {amount:,}"))
    render.print_table(out, table)


def _parts(summary: mapreduce.Summary) -> str:
    return _plural(summary.reduces or summary.maps, "part")


def _last_side(summary: mapreduce.Summary) -> str:
    return "reduce output" if summary.reduces else "map output"


def _amount(counters: Mapping[str, int], side: str) -> str:
    return f"{counters.get(f'{side} records', 0):,} lines ({format_bytes(counters.get(f'{side} bytes', 0))})"


def _trouble(counters: Mapping[str, int]) -> str:
    words = {
        "failed": "attempts failed",
        "lost": "attempts lost",
        "outputs lost": "outputs lost and made again",
        "copies": "copies of slow tasks",
    }
    return ", ".join(f"{counters[name]} {what}" for name, what in words.items() if counters.get(name))


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
