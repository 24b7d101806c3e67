"""The result of an experiment: tables beside the paper's figures, plots as plain numbers, and findings in words.

Nothing here depends on a terminal or a plotting library; `document` is what `--json` prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from offerd_simulator.statistics import Estimate

Cell = str | float | int | None | Estimate
Row = list[Cell]
Progress = Callable[[float, str], None]
"""Called now and then with how much is done, 0 to 1, and what is being done."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of every experiment. `quick`: small enough for a test, and rough."""

    seed: int = 1
    quick: bool = False
    slaves: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """`key` in the document, `title` for people; numbers have `digits` digits after the point."""

    key: str
    title: str
    digits: int = 2

    def text(self, cell: Cell) -> str:
        """A cell for people; an unknown value is empty."""
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return ""
        if isinstance(cell, Estimate):
            width = "" if math.isnan(cell.half_width) else f" ± {cell.half_width:.{self.digits}f}"
            return f"{cell.mean:.{self.digits}f}{width}"
        if isinstance(cell, bool):
            return "yes" if cell else "no"
        if isinstance(cell, float):
            return f"{cell:.{self.digits}f}"
        return f"{cell:,}" if isinstance(cell, int) else cell


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, in the order of the columns; `note` stands below them."""

    key: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a plot. `style`: line | marked | dashes | points; `error`: half widths of intervals; `colour`: a number
    shared by series that belong together.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"
    error: Sequence[float] | None = None
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `stacked`: the lines are areas on top of each other. `bars`: they are groups of bars at 0, 1, 2, ...,
    named by `ticks`. `x_ticks`: the only numbers on the x axis.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    stacked: bool = False
    bars: bool = False
    log_x: bool = False
    log_y: bool = False
    y_max: float | None = None
    ticks: Sequence[str] = ()
    x_ticks: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot of one or several panels, in rows of `columns`; `name` is its file name."""

    name: str
    title: str
    panels: Sequence[Panel]
    columns: int = 2


@dataclass(slots=True)
class Result:
    """Everything that one run of an experiment has found."""

    experiment: str
    title: str
    seed: int
    parameters: dict[str, object] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    computing_s: float = 0.0


def document(result: Result) -> dict[str, object]:
    """For programs: cells by their columns' keys, an estimate as `{"mean", "half_width"}`. Keys are only ever added."""
    return {
        "experiment": result.experiment,
        "title": result.title,
        "seed": result.seed,
        "parameters": result.parameters,
        "tables": {
            table.key: [
                {column.key: _plain(cell) for column, cell in zip(table.columns, row, strict=True)}
                for row in table.rows
            ]
            for table in result.tables
        },
        "figures": [asdict(figure) for figure in result.figures],
        "findings": result.findings,
        "computing_s": result.computing_s,
    }


def _plain(cell: Cell) -> object:
    if isinstance(cell, Estimate):
        return {"mean": cell.mean, "half_width": _plain(cell.half_width)}
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
