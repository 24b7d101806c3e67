"""`offerd mapreduce`: Hadoop Streaming's command line, on the cluster."""

from __future__ import annotations

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, master_option
from offerd_cli.units import parse_amount, parse_pairs


@click.command(short_help="Run a MapReduce job of any programs.")
@master_option
@click.option("--mapper", required=True, metavar="CMD", help="Lines in, lines out: KEY TAB VALUE.")
@click.option("--reducer", default="", metavar="CMD", help="Gets the lines sorted by key.")
@click.option("--combiner", default="", metavar="CMD", help="Run on each map's sorted output first.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="PATH|data:SET",
    help="File, directory or data set; may be repeated.",
)
@click.option("--output", required=True, metavar="DIR", help="Must not be there yet, or be empty.")
@click.option(
    "--reduces",
    type=click.IntRange(0, 10_000),
    default=1,
    show_default=True,
    help="Part files; 0: no reducer.",
)
@click.option("--file", "files", multiple=True, metavar="PATH", help="Copy into each task's directory.")
@click.option(
    "-D",
    "--define",
    "defines",
    multiple=True,
    metavar="NAME=VALUE",
    help="A property: a.b is a_b for the commands.",
)
@click.option("--cmdenv", multiple=True, metavar="NAME=VALUE", help="Add to the commands' environment.")
@click.option("--cpus", default="1", show_default=True, help="Of each task.")
@click.option("--mem", default="256M", show_default=True, help="Of each task.")
@click.option("--block-size", default="", metavar="SIZE", help="Of input for each map.  [default: up to 32M]")
@click.option("--time-limit", type=DURATION, help="Of each task.  [default: an honest guess]")
@click.option(
    "--locality-wait",
    type=DURATION,
    default="5s",
    show_default=True,
    help="For a slave that has the block, before it is read from afar.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 100),
    default=4,
    show_default=True,
    help="Of a task, before the job fails.",
)
@click.option("--no-speculation", is_flag=True, help="Never start a copy of a slow task.")
@click.option("--name", default="", help="What listings show.  [default: the mapper]")
def command(
    *,
    master: str,
    mapper: str,
    reducer: str,
    combiner: str,
    inputs: tuple[str, ...],
    output: str,
    reduces: int,
    files: tuple[str, ...],
    defines: tuple[str, ...],
    cmdenv: tuple[str, ...],
    cpus: str,
    mem: str,
    block_size: str,
    time_limit: float | None,
    locality_wait: float,
    attempts: int,
    no_speculation: bool,
    name: str,
) -> int:
    """Run a job: the mapper over the input, its output sorted by key, the reducer over that.

    \b
    offerd mapreduce --mapper 'tr -s "[:space:]" "\\n"' --reducer 'uniq -c' --input TEXTS --output OUT
    offerd mapreduce --mapper ./map.py --reducer ./reduce.py --file map.py --file reduce.py \\
                     --input data:logs --output OUT --reduces 4

    The commands follow Hadoop Streaming: KEY TAB VALUE lines, mapreduce_... variables, and on stderr
    reporter:counter:GROUP,NAME,N and reporter:status:TEXT. OUT holds part-00000 ..., which are sorted one after the other.
    """
    from offerd_cli.mapreducing import run_job
    from offerd_frameworks import mapreduce

    properties = parse_pairs(defines, "--define")
    if bad := next(
        (key for key in properties if not key.replace(".", "").replace("_", "").replace("-", "").isalnum()),
        None,
    ):
        raise BadInput(f"--define {bad!r} is no property; write NAME=VALUE")
    environment = {key.replace(".", "_").replace("-", "_"): value for key, value in properties.items()}
    return run_job(
        mapreduce.Job(
            input=inputs,
            output=output,
            mapper=mapper,
            reducer=reducer,
            combiner=combiner,
            reduces=reduces,
            files=files,
            name=name,
            cpus=cpus,
            mem=mem,
            block_bytes=parse_amount("disk", block_size) if block_size else None,
            time_limit_s=time_limit,
            delay_s=locality_wait,
            max_attempts=attempts,
            speculate=not no_speculation,
            environment={**environment, **parse_pairs(cmdenv, "--cmdenv")},
        ),
        master,
    )
