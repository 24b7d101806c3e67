"""The table, on the terminal and in `results.md`, which has a section for each suite and machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from figures import Findings, Row, number, spread
from machine import Machine, commit, today

RESULTS = Path(__file__).parent / "results.md"
_TITLE = """# Measurements

Written by `make bench`. Figures are `median (least-most)` of the runs; ratios are taken pair by pair, between a run of
offerd and a run of the baseline right beside it. MB are millions of bytes. Each suite has a section for each machine.
"""
_COLUMNS = ("measure", "offerd", "baseline", "ratio", "demanded", "met")


def cells(row: Row) -> tuple[str, ...]:
    """The texts of one row, by column."""
    baseline = ""
    if row.baseline is not None:
        baseline = f"{spread(row.baseline)} ({row.baseline_name})"
    return (
        row.measure,
        f"{spread(row.offerd)} {row.unit}" if row.offerd else "",
        baseline,
        spread(row.ratios) if row.ratios else "",
        demanded(row),
        {None: "", True: "yes", False: "**no**"}[row.met],
    )


def demanded(row: Row) -> str:
    if row.bound is None:
        return ""
    what = "ratio " if row.bound.of_ratio else ""
    unit = "" if row.bound.of_ratio else f" {row.unit}"
    return f"{what}{'>=' if row.bound.at_least else '<='} {number(row.bound.limit)}{unit}"


def print_table(console: Console, findings: Findings) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("measure", "met") else "right")
    for row in findings.rows:
        texts = cells(row)
        color = {None: "", True: "green", False: "bold red"}[row.met]
        table.add_row(*texts[:-1], texts[-1].strip("*"), style=color if color != "green" else "")
    console.print(table)
    for note in findings.notes:
        console.print()
        console.print(Markdown(note))


def write(
    suite: str, machine: Machine, findings: Findings, failures: Iterable[str], path: Path = RESULTS
) -> None:
    """Replace this suite's section for this machine, or add it; other sections stay."""
    sections = read_sections(path)
    sections[f"{suite} · {machine.title}"] = section(machine, findings, failures)
    parts = [f"## {title}\n\n{body}" for title, body in sections.items()]
    path.write_text("\n".join([_TITLE, *parts]))


def read_sections(path: Path) -> dict[str, str]:
    """The body of each section, by its title."""
    if not path.exists():
        return {}
    parts = re.split(r"^## (.+)\n+", path.read_text(), flags=re.MULTILINE)[1:]
    return {title: body.rstrip("\n") + "\n" for title, body in zip(parts[::2], parts[1::2], strict=True)}


def section(machine: Machine, findings: Findings, failures: Iterable[str]) -> str:
    facts = [
        f"{name} {value}" for name, value in machine.facts().items() if name not in ("cpu", "cores", "memory")
    ]
    version = commit()
    lines = [f"{', '.join(facts)}; {today()}{f'; {version}' if version else ''}", ""]
    lines.append("| " + " | ".join(_COLUMNS) + " |")
    lines.append("|---|--:|--:|--:|--:|---|")
    lines += [
        "| " + " | ".join(text.replace("|", "\\|") for text in cells(row)) + " |" for row in findings.rows
    ]
    for note in (*findings.notes, *(f"Not measured: {failure}" for failure in failures)):
        lines += ["", note]
    return "\n".join(lines) + "\n"
