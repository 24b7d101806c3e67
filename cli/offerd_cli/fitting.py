"""Fits a table into a terminal: texts are cut in the middle with a mark, then columns are left out and named below the table.

Pure: widths are counted in columns of the screen. Texts in a column that are different stay different when they are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

GAP = 2
"""Blanks between two columns of the table."""
MARK = "…"
LEAST_WIDTH = 8
"""No text is cut to less than this, and a wrapped one gets no less."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `side` is left or right. Columns with a `worth` are left out when needed, the smallest first; others stay.

    `cuts`: its texts may be cut in the middle. `wraps`: they may continue in the next line.
    """

    title: str
    side: str = "left"
    worth: int | None = None
    cuts: bool = False
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Fitted:
    """The numbers and widths of the columns shown, and the titles of those left out."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    left_out: tuple[str, ...] = ()


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Fitted:
    """The columns that fit into `width`, with their widths. If no more can be left out, the rest is wrapped."""
    wanted = _widths(columns, rows)
    least = [_least(column, wanted[at], [row[at] for row in rows]) for at, column in enumerate(columns)]
    shown = list(range(len(columns)))
    left_out: list[int] = []
    while sum(least[at] for at in shown) + GAP * (len(shown) - 1) > width:
        going = min(
            (at for at in shown if columns[at].worth is not None),
            key=lambda at: (columns[at].worth, at),
            default=None,
        )
        if going is None:
            break
        shown.remove(going)
        left_out.append(going)
    room = width - GAP * (len(shown) - 1)
    widths = _shared([wanted[at] for at in shown], [least[at] for at in shown], room)
    return Fitted(tuple(shown), tuple(widths), tuple(columns[at].title for at in sorted(left_out)))


def cut_middle(text: str, width: int) -> str:
    """`text` in at most `width` columns, with a mark where the middle was cut out."""
    if cell_len(text) <= width:
        return text
    if width <= cell_len(MARK):
        return MARK[:width]
    tail_width = (width - 1) // 2
    return _head(text, width - 1 - tail_width) + MARK + _head(text[::-1], tail_width)[::-1]


def _head(text: str, width: int) -> str:
    taken = 0
    for at, sign in enumerate(text):
        taken += cell_len(sign)
        if taken > width:
            return text[:at]
    return text


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max([cell_len(column.title), *(cell_len(row[at]) for row in rows)])
        for at, column in enumerate(columns)
    ]


def _least(column: Column, wanted: int, texts: Sequence[str]) -> int:
    if column.wraps:
        return min(wanted, max(cell_len(column.title), LEAST_WIDTH))
    if not column.cuts:
        return wanted
    different = set(texts)
    for width in range(min(wanted, max(cell_len(column.title), LEAST_WIDTH)), wanted):
        if len({cut_middle(text, width) for text in different}) == len(different):
            return width
    return wanted


def _shared(wanted: list[int], least: list[int], room: int) -> list[int]:
    """Give each column what it wants if there is room. Otherwise the widest give way first, down to their least widths. If even
    those are too much, the widest column gets what the others leave, and wraps.
    """
    widths = list(wanted)
    while sum(widths) > room:
        can_give = [at for at in range(len(widths)) if widths[at] > least[at]]
        if not can_give:
            break
        widest = max(can_give, key=lambda at: widths[at])
        widths[widest] -= 1
    if widths and sum(widths) > room:
        widest = max(range(len(widths)), key=lambda at: widths[at])
        widths[widest] = max(1, room - sum(widths) + widths[widest])
    return widths
