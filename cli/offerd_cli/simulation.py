"""What `offerd simulate` shows: a progress bar, then tables, findings, and where the plots are."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from offerd_cli import render
from offerd_cli.units import format_duration
from offerd_simulator.results import Progress as Report
from offerd_simulator.results import Result, Table

_PROSE_WIDTH = 110


@contextmanager
def progress_bar(title: str) -> Iterator[Report]:
    """A progress bar on stderr, if that is a terminal; it disappears at the end."""
    console = render.console(stderr=True)
    columns = (
        TextColumn(title, style="bold"),
        BarColumn(28),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda done, text: bar.update(task, completed=done, description=text)


def print_result(console: Console, result: Result, written: Sequence[Path]) -> None:
    """Print everything that was found."""
    console.print(Text(result.title, style="bold"), Text(f"seed {result.seed}", style="dim"))
    for table in result.tables:
        console.print()
        console.print(rendered(table))
        if table.note:
            _print_prose(console, table.note, style="dim")
    if result.findings:
        console.print()
    for finding in result.findings:
        _print_prose(console, f"• {finding}", hang="  ")
    console.print()
    console.print(Text(f"computed in {format_duration(result.computing_s)}", style="dim"))
    if written:
        folder = written[0].parent
        names = ", ".join(sorted({path.stem for path in written}))
        console.print(f"plots in {folder}: {names} (.png, .svg)")


def rendered(table: Table) -> render.ScreenTable:
    """Numbers are aligned right, with a rule below the titles."""
    out = render.ScreenTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
    )
    for place, column in enumerate(table.columns):
        is_text = all(isinstance(row[place], str | bool) for row in table.rows)
        out.add_column(column.title, justify="left" if is_text else "right", overflow="fold")
    for row in table.rows:
        out.add_row(*(column.text(cell) for column, cell in zip(table.columns, row, strict=True)))
    return out


def _print_prose(console: Console, text: str, *, style: str = "", hang: str = "") -> None:
    width = min(console.width, _PROSE_WIDTH)
    for line in textwrap.wrap(text, width, subsequent_indent=hang, break_long_words=False):
        console.print(line, style=style)
