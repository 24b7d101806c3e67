"""How a table is made to fit a terminal: texts are cut in the middle with a mark, then columns give way, and it is said which.

Pure: widths are counted in columns of the screen. A cut leaves a column's texts as different from each other as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

GAP = 2
"""Blanks between two columns."""
MARK = "…"
LEAST_WIDTH = 8
"""No text is cut below that, and what wraps gets no less."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `side` is left or right. Of those with a `worth` the smallest gives way first; without, it stays.

    Texts of one that `cuts` may be cut in the middle. `wraps`: they may go on in the next line.
    """

    title: str
    side: str = "left"
    worth: int | None = None
    cuts: bool = False
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Fitted:
    """Which columns are shown, by number, how wide each is, and the titles of those that gave way."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    left_out: tuple[str, ...] = ()


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Fitted:
    """The columns that fit into `width`, and how wide each is. What is left where nothing can give way any more is wrapped."""
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
    """`text` in no more than `width` columns, with a mark where the middle of it was."""
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
    """Each what it wants, where there is room; else the widest give first, none below its least, but where even those are too
    much: then the widest is given what the others leave, and wraps.
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
