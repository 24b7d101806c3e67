"""`offerd simulate`: the master's core in virtual time, beside the paper's figures."""

from __future__ import annotations

from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.options import json_option


def _experiments() -> dict[str, str]:
    from offerd_simulator.experiments import EXPERIMENTS

    return EXPERIMENTS


class SimulateCommand(click.Command):
    """Its help lists the experiments."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Experiments"):
            formatter.write_dl(list(_experiments().items()))
        super().format_options(ctx, formatter)


@click.command(
    cls=SimulateCommand, short_help="Run the master's core in virtual time, beside the paper's figures."
)
@click.argument("experiment", metavar="EXPERIMENT")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Number that starts the random generator: the same seed gives the same run.",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write plots into this directory, as PNG and SVG.  [default: no plots]",
)
@click.option(
    "--slaves",
    default="",
    metavar="N,...",
    help="Numbers of slaves, for the experiment scale.  [default: those of the paper]",
)
@click.option("--quick", is_flag=True, help="Run a small and rough version, in some seconds.")
@json_option
def command(
    *, experiment: str, seed: int, plots: Path | None, slaves: str, quick: bool, as_json: bool
) -> None:
    """Run EXPERIMENT with the master's own core in virtual time; print tables beside the figures of the Mesos paper.

    \b
    offerd simulate table2
    offerd simulate macro --seed 7 --plots plots
    offerd simulate scale --slaves 1000,50000
    """
    from offerd_cli import documents, render, simulation
    from offerd_simulator import experiments
    from offerd_simulator.results import Options, document

    if experiment not in _experiments():
        raise BadInput(f"there is no experiment {experiment!r}; there are: {', '.join(_experiments())}")
    if slaves and experiment != "scale":
        raise BadInput(f"--slaves is for the experiment scale; leave it out for {experiment}")
    options = Options(seed, quick, _numbers(slaves))
    if plots is not None:
        from offerd_simulator import plots as drawing

        drawing.check()
    with simulation.progress_bar(experiment) as progress:
        result = experiments.run(experiment, options, progress)
    written = drawing.write(result.figures, plots) if plots is not None else []
    if as_json:
        documents.print_document(document(result))
    else:
        simulation.print_result(render.console(), result, written)


def _numbers(text: str) -> tuple[int, ...]:
    """`1000,50000`. Raises `BadInput`."""
    words = [word.strip().replace("_", "") for word in text.split(",")] if text else []
    for word in words:
        if not word.isdecimal() or not 0 < int(word) <= 1_000_000:
            raise BadInput(f"--slaves {text}: {word!r} is not a number from 1 to 1000000")
    return tuple(map(int, words))
