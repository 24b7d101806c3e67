"""Figures as PNG and SVG files. Only this module uses matplotlib, which comes with the extra `simulate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offerd.errors import BadInput
from offerd_simulator.results import Figure, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#F0E442")
_STYLES = {"line": "-", "marked": "-", "dashes": "--"}
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")
_PANEL_INCHES = (4.6, 3.3)
_LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "offerd",
    "svg.fonttype": "none",
}


def check() -> None:
    """Raises `BadInput` with one line if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BadInput(
            "plots need matplotlib, which is not installed: pip install matplotlib, or leave out --plots"
        ) from None


def write(figures: list[Figure], folder: Path) -> list[Path]:
    """Draw each figure into `NAME.svg` and `NAME.png`; returns the files. Raises `BadInput` without matplotlib, and `OSError`
    if the folder cannot be written.
    """
    check()
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_LOOK):
        for figure in figures:
            columns = min(figure.columns, len(figure.panels))
            rows = -(-len(figure.panels) // columns)
            size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows + 0.3)
            canvas = Canvas(figsize=size, layout="constrained")
            axes = canvas.subplots(rows, columns, squeeze=False)
            for axis, panel in zip(axes.flat, figure.panels, strict=False):
                _draw(axis, panel)
            for axis in axes.flat[len(figure.panels) :]:
                axis.set_axis_off()
            canvas.suptitle(figure.title, fontsize=11, fontweight="bold")
            for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
                path = folder / (figure.name + suffix)
                # The same numbers must give the same bytes, so there is no date, and ids come from the salt above.
                canvas.savefig(path, dpi=130, metadata=metadata)
                if suffix == ".svg":
                    # A hundredth of a point is precise enough, and halves the file.
                    path.write_text(_LONG_NUMBER.sub(r"\1", path.read_text()))
                written.append(path)
    return written


def _draw(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title)
    axis.set_xlabel(panel.x_label)
    axis.set_ylabel(panel.y_label)
    if panel.stacked:
        _draw_stacked(axis, panel)
    elif panel.bars:
        _draw_bars(axis, panel)
    else:
        for i, line in enumerate(panel.lines):
            colour = COLOURS[(i if line.colour is None else line.colour) % len(COLOURS)]
            options: dict[str, Any] = {"color": colour, "label": line.label or "_nolegend_"}
            if line.style == "points":
                axis.errorbar(line.x, line.y, line.error, fmt="o", markersize=4, capsize=2, **options)
            else:
                marker = "o" if line.style == "marked" else None
                axis.plot(line.x, line.y, _STYLES[line.style], marker=marker, markersize=3.5, **options)
    if panel.log_x:
        axis.set_xscale("log")
    if panel.x_ticks:
        axis.set_xticks(panel.x_ticks, [f"{tick:g}" for tick in panel.x_ticks])
        axis.set_xticks([], minor=True)
    if panel.log_y:
        axis.set_yscale("log")
    elif panel.y_max is not None:
        axis.set_ylim(0, panel.y_max)
    if panel.stacked:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncol=len(panel.lines), columnspacing=1.0)
    elif any(line.label for line in panel.lines):
        axis.legend(loc="best")


def _draw_stacked(axis: Axes, panel: Panel) -> None:
    x = panel.lines[0].x
    axis.stackplot(
        x,
        *[line.y for line in panel.lines],
        labels=[line.label for line in panel.lines],
        colors=COLOURS[: len(panel.lines)],
        linewidth=0,
    )
    axis.set_xlim(x[0], x[-1])


def _draw_bars(axis: Axes, panel: Panel) -> None:
    width = 0.8 / len(panel.lines)
    for i, line in enumerate(panel.lines):
        places = [x - 0.4 + width * (i + 0.5) for x in line.x]
        axis.bar(places, line.y, width * 0.92, label=line.label, color=COLOURS[i], yerr=line.error)
    axis.set_xticks(list(panel.lines[0].x), list(panel.ticks))
    axis.grid(visible=False, axis="x")
