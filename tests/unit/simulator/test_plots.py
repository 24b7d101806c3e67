"""Plots: files exist, the same numbers give the same files, and without matplotlib there is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from offerd.errors import BadInput
from offerd_simulator import plots
from offerd_simulator.results import Figure, Line, Panel

FIGURE = Figure(
    "three",
    "Three panels",
    [
        Panel("lines", "x", "y", [Line("a", [1, 10], [2, 3]), Line("b", [1, 10], [2, 3], "points", [0.1, 0.2])], log_x=True),
        Panel("bars", "", "y", [Line("a", [0, 1], [2, 3]), Line("b", [0, 1], [1, 4])], bars=True, ticks=["one", "two"]),
        Panel("areas", "x", "y", [Line("a", [0, 1], [2, 3]), Line("b", [0, 1], [1, 4])], stacked=True, y_max=9),
    ],
)  # fmt: skip


def test_each_figure_is_drawn_as_svg_and_png(tmp_path: Path) -> None:
    written = plots.write([FIGURE], tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["three.svg", "three.png"]
    assert "Three panels" in written[0].read_text()
    assert written[1].read_bytes().startswith(b"\x89PNG")


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in plots.write([FIGURE], tmp_path / "a")]
    assert [path.read_bytes() for path in plots.write([FIGURE], tmp_path / "b")] == first


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match="pip install matplotlib") as caught:
        plots.check()
    assert "\n" not in str(caught.value)
