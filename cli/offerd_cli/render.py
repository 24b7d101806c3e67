"""Tables and bars for people. Colours are used only on a terminal that supports them. A table in a pipe has plain columns and
is never cut. A terminal that is too narrow shows the most important columns, and names those that it leaves out.

Most of what is shown was written by peers, so all of it is escaped (`offerd.values.screen_text`). `ScreenTable`, `FittedTable`
and `ScreenConsole` do that, and everything is printed through them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Span, Text

from offerd.messages import TaskState
from offerd.operator_messages import Cluster, FrameworkSummary, SlaveSummary, TaskSummary
from offerd.resources import Resources
from offerd.values.screen_text import printable
from offerd_cli.bars import bar
from offerd_cli.doctor import Finding
from offerd_cli.fitting import GAP, Column, cut_middle, fit
from offerd_cli.screen import say
from offerd_cli.units import format_duration, format_quantity

PIPE_WIDTH = 1_000_000
"""Width if the output is not a terminal: a table in a pipe is for grep and awk, whatever COLUMNS says."""
_SHORT_REASON = 24
"""Longest reason, in characters, that stands in each row."""
_STATE_STYLES = {
    TaskState.STAGING: "yellow",
    TaskState.RUNNING: "cyan",
    TaskState.FINISHED: "green",
    TaskState.FAILED: "red",
    TaskState.KILLED: "magenta",
    TaskState.ERROR: "red",
    TaskState.LOST: "red",
    TaskState.UNREACHABLE: "yellow",
}
_PLACE_STYLES = {
    "active": "green",
    "deactivated": "yellow",
    "draining": "yellow",
    "drained": "yellow",
    "disconnected": "yellow",
    "lost": "red",
    "ended": "dim",
}


class ScreenTable(Table):
    """A table in which each cell is one line of printable characters."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(escaped, cells), **options)


class FittedTable:
    """Such a table that fits the width of its terminal (`offerd_cli.fitting`)."""

    def __init__(self, *columns: Column) -> None:
        self.columns = columns
        self._rows: list[list[Text]] = []

    @property
    def row_count(self) -> int:
        """Rows added so far."""
        return len(self._rows)

    def add_row(self, *cells: str | Text) -> None:
        self._rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in map(escaped, cells)])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fitted = fit(self.columns, [[cell.plain for cell in row] for row in self._rows], options.max_width)
        table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, GAP, 0, 0))
        for at, width in zip(fitted.shown, fitted.widths, strict=True):
            column = self.columns[at]
            justify: JustifyMethod = "right" if column.side == "right" else "left"
            table.add_column(column.title, justify=justify, width=width, overflow="fold")
        for row in self._rows:
            table.add_row(
                *(
                    self._cell(row[at], self.columns[at], width)
                    for at, width in zip(fitted.shown, fitted.widths, strict=True)
                )
            )
        yield table
        if fitted.left_out:
            yield Text(f"not shown in {options.max_width} columns: {', '.join(fitted.left_out)}", style="dim")

    def _cell(self, cell: Text, column: Column, width: int) -> Text:
        return Text(cut_middle(cell.plain, width), style=cell.style) if column.cuts else cell


class ScreenConsole(Console):
    """Prints each text as one line of printable characters; control characters in a renderable are escaped, too."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(escaped, objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control is None and not text.isprintable() and text != "\n":
                lines = "\n".join(printable(line, limit=None) for line in text.split("\n"))
                segment = Segment(lines, style)
            yield segment


def escaped(thing: Any) -> Any:
    """A text with unprintable characters escaped and its styles kept; other renderables are returned unchanged."""
    if isinstance(thing, str):
        return printable(thing, limit=None)
    if not isinstance(thing, Text) or thing.plain.isprintable():
        return thing
    signs = [printable(letter, limit=None) for letter in thing.plain]
    places = [0]
    for sign in signs:
        places.append(places[-1] + len(sign))
    shown = thing.blank_copy("".join(signs))
    shown.spans = [Span(places[span.start], places[span.end], span.style) for span in thing.spans]
    return shown


def console(*, stderr: bool = False) -> Console:
    """The console for people. rich itself obeys NO_COLOR and `TERM=dumb`."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return ScreenConsole(file=stream, width=width, highlight=False, emoji=False, markup=False)


def state_text(state: TaskState) -> Text:
    return Text(state.value.removeprefix("TASK_").lower(), style=_STATE_STYLES[state])


def _used_of(name: str, used: Resources, total: Resources) -> str:
    return f"{format_quantity(name, used.scalars.get(name, 0))}/{format_quantity(name, total.scalars.get(name, 0))}"


def resources_text(resources: Resources) -> str:
    """`0.5 cpus, 128M mem`: the scalars in words."""
    return ", ".join(f"{format_quantity(name, amount)} {name}" for name, amount in resources.scalars.items())


def slave_words(slave: SlaveSummary) -> str:
    """The slave's state in words. A full disk comes first if the slave is active, and after any other state."""
    if not slave.disk_full:
        return slave.state
    return "disk full" if slave.state == "active" else f"{slave.state}, disk full"


def _slave_state(slave: SlaveSummary) -> Text:
    return Text(slave_words(slave), style="red" if slave.disk_full else _PLACE_STYLES.get(slave.state, ""))


def slaves_table(slaves: Iterable[SlaveSummary]) -> FittedTable:
    table = FittedTable(
        Column("SLAVE", cuts=True),
        Column("HOST", worth=90, cuts=True),
        Column("STATE"),
        Column("CPUS", "right", worth=80),
        Column("MEM", "right", worth=70),
        Column("MEASURED", "right", worth=30),
        Column("TASKS", "right", worth=60),
        Column("ISOLATION", worth=40),
        Column("SINCE", "right", worth=20),
        Column("ATTRIBUTES", worth=50, wraps=True),
    )
    for slave in slaves:
        taken = slave.used + slave.offered
        table.add_row(
            slave.info.slave_id,
            slave.info.hostname,
            _slave_state(slave),
            _used_of("cpus", taken, slave.info.resources),
            _used_of("mem", taken, slave.info.resources),
            f"{slave.used_millicpus / 1000:.2f} {format_quantity('mem', slave.used_mem_bytes)}",
            str(slave.tasks),
            slave.info.isolation,
            format_duration(slave.since_s),
            ",".join(f"{key}={value}" for key, value in slave.info.attributes.items()) or "-",
        )
    return table


def frameworks_table(frameworks: Iterable[FrameworkSummary]) -> FittedTable:
    table = FittedTable(
        Column("FRAMEWORK", cuts=True),
        Column("NAME", worth=90, cuts=True),
        Column("ROLE", worth=40, cuts=True),
        Column("STATE", worth=80),
        Column("CPUS", "right", worth=70),
        Column("MEM", "right", worth=60),
        Column("SHARE", "right", worth=65),
        Column("RUNNING", "right", worth=75),
        Column("ENDED", "right", worth=50),
        Column("WASTED", "right", worth=20),
        Column("SINCE", worth=30),
    )
    for framework in frameworks:
        active, ended = _active_and_ended(framework.tasks)
        wasted = framework.wasted_resource_s.get("cpus", 0.0)
        table.add_row(
            framework.framework_id,
            framework.name,
            framework.role,
            Text(framework.state, style=_PLACE_STYLES.get(framework.state, "")),
            format_quantity("cpus", framework.used.millicpus),
            format_quantity("mem", framework.used.mem_bytes),
            f"{framework.dominant_share:.1%}",
            str(active),
            str(ended),
            f"{wasted:.0f} cpu s" if wasted else "-",
            format_duration(framework.since_s),
        )
    return table


def print_tasks(out: Console, tasks: Sequence[TaskSummary]) -> None:
    """Print the table. On a terminal, long reasons that several tasks share stand once below it, so that no row wraps."""
    reasons = Counter(why(task.reason, task.message) for task in tasks) if out.is_terminal else Counter()
    shared = [reason for reason, times in reasons.items() if times > 1 and len(reason) > _SHORT_REASON]
    marks = {reason: f"({number})" for number, reason in enumerate(shared, 1)}
    print_table(out, tasks_table(tasks, marks))
    for reason, mark in marks.items():
        out.print(f"{mark} {reason}", style="dim")


def tasks_table(tasks: Iterable[TaskSummary], marks: Mapping[str, str] | None = None) -> FittedTable:
    """`marks`: short marks that replace certain reasons."""
    marks = marks or {}
    table = FittedTable(
        Column("TASK", cuts=True),
        Column("FRAMEWORK", worth=50, cuts=True),
        Column("HOST", worth=70, cuts=True),
        Column("STATE"),
        Column("CPUS", "right", worth=40),
        Column("MEM", "right", worth=30),
        Column("LIMIT", "right", worth=20),
        Column("RAN", "right", worth=60),
        Column("WHY", worth=80, wraps=True),
    )
    for task in tasks:
        reason = why(task.reason, task.message)
        table.add_row(
            task.task_id,
            task.framework_name,
            task.hostname or "-",
            state_text(task.state),
            format_quantity("cpus", task.resources.millicpus),
            format_quantity("mem", task.resources.mem_bytes),
            "long" if task.time_limit_s is None else format_duration(task.time_limit_s),
            format_duration(task.ran_s),
            marks.get(reason, reason) or "-",
        )
    return table


def print_table(out: Console, table: FittedTable | Table) -> None:
    """On a terminal rich prints the table; in a pipe it has no blanks at line ends."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def print_owner(owner: str) -> None:
    """Print below a listing, on stderr, that other owners may have more."""
    if owner:
        say(f"only frameworks of {owner} are shown: your key is not an operator's")


def print_findings(out: Console, findings: Sequence[Finding]) -> None:
    """Print one line for each check, and below a missing feature the command that adds it."""
    for finding in findings:
        mark = ("ok       ", "green") if finding.ok else ("missing  ", "yellow")
        out.print(Text.assemble(mark, (f"{finding.check:<12}", "bold"), finding.found), soft_wrap=True)
        if finding.mend:
            out.print(Text.assemble(" " * 21, ("mend: ", "dim"), (finding.mend, "cyan")), soft_wrap=True)


def why(reason: str, message: str) -> str:
    """`TASK_TIMEOUT: its time limit of 2 s was over`, without repeating a word."""
    return ": ".join(text for text in (reason, message) if text)


def _active_and_ended(tasks: dict[str, int]) -> tuple[int, int]:
    active = sum(tasks.get(state.value, 0) for state in TaskState if not state.terminal)
    return active, sum(tasks.get(state.value, 0) for state in TaskState if state.terminal)


def print_status(
    out: Console,
    cluster: Cluster,
    slaves: Sequence[SlaveSummary],
    frameworks: Sequence[FrameworkSummary],
    address: str,
) -> None:
    """The whole cluster: the leader, how full it is, the largest frameworks, the numbers of tasks."""
    out.print(
        Text.assemble(
            ("master ", "bold"), address, ("  up ", "dim"), format_duration(cluster.up_s),
            ("  offerd ", "dim"), cluster.version, ("  allocator ", "dim"), cluster.allocator or "?",
        )
    )  # fmt: skip
    _print_slave_counts(out, slaves)
    if cluster.refused:
        out.print(
            Text(
                f"{cluster.refused} handshakes and messages were refused because of their keys",
                style="yellow",
            )
        )
    if cluster.failed_messages:
        text = (
            f"{cluster.failed_messages} messages could not be handled by an error of the master; see its log"
        )
        out.print(Text(text, style="red"))
    out.print()
    _print_fullness(out, cluster, slaves)
    out.print()
    _print_shares(out, frameworks)
    out.print()
    _print_task_counts(out, cluster.tasks)
    if wasted := cluster.wasted_resource_s.get("cpus", 0.0):
        out.print(
            Text.assemble(("wasted ", "bold"), f"{wasted:.0f} cpu s, by tasks killed by their time limit")
        )


def _print_slave_counts(out: Console, slaves: Sequence[SlaveSummary]) -> None:
    states = Counter(map(slave_words, slaves))
    counted = (
        ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        or "none; start one: offerd slave"
    )
    out.print(Text.assemble(("slaves ", "bold"), counted))


def _print_fullness(out: Console, cluster: Cluster, slaves: Sequence[SlaveSummary]) -> None:
    """How much of each resource is used, and how much more is not free."""
    out_words = sorted(set(map(slave_words, slaves)) - {"active", "lost"}) or ["withheld"]
    for name in ("cpus", "mem"):
        usable, used = cluster.usable.get(name, 0), cluster.used.scalars.get(name, 0)
        fraction = (used / usable) if usable else 0.0
        beside = [
            f"{format_quantity(name, amount)} {word}"
            for amount, word in (
                (cluster.offered.scalars.get(name, 0), "offered"),
                (cluster.withheld.scalars.get(name, 0), " or ".join(out_words)),
            )
            if amount
        ]
        out.print(
            Text.assemble(
                (f"  {name:<5}", "bold"), (bar(fraction), "cyan"),
                f" {fraction:4.0%}  {format_quantity(name, used)} of {format_quantity(name, usable)}",
                (f"  and {', '.join(beside)}" if beside else "", "dim"),
            )
        )  # fmt: skip


def _print_shares(out: Console, frameworks: Sequence[FrameworkSummary]) -> None:
    """How much each framework holds, the largest dominant share first."""
    if not frameworks:
        out.print(Text("no frameworks are registered", style="dim"))
        return
    out.print(Text("shares", style="bold"))
    shown = {framework.name: printable(framework.name, limit=None) for framework in frameworks}
    widest = max(map(len, shown.values()))
    for framework in sorted(frameworks, key=lambda f: (-f.dominant_share, f.name)):
        active, _ = _active_and_ended(framework.tasks)
        out.print(
            Text.assemble(
                f"  {shown[framework.name]:<{widest}}  ", (bar(framework.dominant_share), "green"),
                f" {framework.dominant_share:4.0%}  {resources_text(framework.used) or 'nothing'}",
                (f"  {active} task{'s' * (active != 1)}", "dim"),
                (_shortage(framework), "yellow"),
            )
        )  # fmt: skip


def _shortage(framework: FrameworkSummary) -> str:
    if framework.under_share_s is None:
        return ""
    return f"  under its share for {format_duration(framework.under_share_s)}"


def _print_task_counts(out: Console, tasks: dict[str, int]) -> None:
    line = Text.assemble(("tasks ", "bold"))
    for state in TaskState:
        if number := tasks.get(state.value, 0):
            line.append(f" {number} ")
            line.append_text(state_text(state))
    out.print(line if sum(tasks.values()) else Text.assemble(("tasks ", "bold"), "none yet"))
