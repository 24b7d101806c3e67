"""Tables on terminals of any width: cut texts have a mark and stay different, and omitted columns are named."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from offerd_cli.fitting import GAP, Column, cut_middle, fit
from offerd_cli.render import FittedTable, ScreenConsole

COLUMNS = (
    Column("TASK", cuts=True),
    Column("FRAMEWORK", worth=50, cuts=True),
    Column("HOST", worth=70, cuts=True),
    Column("STATE"),
    Column("MEM", "right", worth=30),
    Column("WHY", worth=80, wraps=True),
)
ROWS = [
    [f"nightly-report-20261130-{number}", "M-1-0001", f"slave-{number}.example.org", "running", "512M", "-"]
    for number in range(12)
]


def shown(width: int, rows: list[list[str]] = ROWS) -> list[str]:
    out = io.StringIO()
    screen = ScreenConsole(file=out, width=width)
    table = FittedTable(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    screen.print(table)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_every_row_is_one_line_that_fits_and_differs_from_the_others(width: int) -> None:
    lines = shown(width)
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    rows = lines[1 : 1 + len(ROWS)]
    assert len({line.split()[0] for line in rows}) == len(ROWS)
    assert all("running" in line for line in rows)


def test_columns_that_are_left_out_are_named_the_least_important_first() -> None:
    assert "not shown" not in "\n".join(shown(160))
    assert "not shown" not in "\n".join(shown(60))
    assert shown(50)[-1].rstrip() == "not shown in 50 columns: FRAMEWORK, MEM"


def test_hosts_that_differ_at_the_end_stay_different() -> None:
    rows = [[f"t{n}", "f", f"slave-{n}", "running", "1G", "because " * 9] for n in (1, 2, 3)]
    for width in (60, 80, 100):
        text = "\n".join(shown(width, rows))
        assert all(f"slave-{n}" in text for n in (1, 2, 3))


@given(st.text(max_size=40), st.integers(1, 40))
def test_a_cut_text_is_as_wide_as_said_and_keeps_both_ends(text: str, width: int) -> None:
    cut = cut_middle(text, width)
    assert cell_len(cut) <= width
    if cell_len(text) <= width:
        assert cut == text
    else:
        head, tail = cut.split("…", 1) if text.count("…") == 0 else ("", "")
        assert text.startswith(head)
        assert text.endswith(tail)


@given(
    st.lists(st.lists(st.text("abcXY-", max_size=30), min_size=6, max_size=6), max_size=8),
    st.integers(10, 200),
)
def test_widths_fill_the_room_and_no_more_and_rows_that_differ_still_do(
    rows: list[list[str]], width: int
) -> None:
    fitted = fit(COLUMNS, rows, width)
    total = sum(fitted.widths) + GAP * (len(fitted.widths) - 1)
    if width >= 40:
        assert total <= width
    widest = fit(COLUMNS, rows, width=10_000).widths
    if sum(widest) + GAP * (len(widest) - 1) <= width:
        assert fitted.left_out == ()
        assert len(fitted.shown) == len(COLUMNS)
    if total < width and width >= 40:
        for at, one_width in zip(fitted.shown, fitted.widths, strict=True):
            if COLUMNS[at].cuts and (at or fitted.left_out == ()):
                assert len({cut_middle(row[at], one_width) for row in rows}) == len({row[at] for row in rows})


def test_a_table_in_a_pipe_is_whole_whatever_columns_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from offerd_cli import render

    monkeypatch.setenv("COLUMNS", "40")
    table = FittedTable(*COLUMNS)
    table.add_row(*ROWS[0][:-1], "why " * 300 + "end")
    render.print_table(render.console(), table)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 2
    assert printed.rstrip().endswith("end")
    assert "…" not in printed
