"""`offerd mapreduce`: Hadoop Streaming's command line, on the cluster."""

from __future__ import annotations

from collections.abc import Mapping

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, master_option
from offerd_cli.task_options import placement_options, read_attributes
from offerd_cli.units import own_umask, parse_amount, parse_pairs

MAX_REDUCES = 10_000
REDUCES = ("mapreduce.job.reduces", "mapred.reduce.tasks")
ANY_STATUS = "stream.non.zero.exit.is.failure"
NOT_DONE = (
    "stream.",
    "mapreduce.partition.",
    "mapreduce.job.partitioner.",
    "mapreduce.job.output.key.comparator.",
    "mapreduce.job.output.group.comparator.",
    "mapred.output.key.comparator.",
    "mapred.output.value.groupfn.",
    "mapred.text.key.",
    "mapred.partitioner.",
    "textinputformat.",
    "mapreduce.job.inputformat.",
    "mapreduce.job.outputformat.",
    "mapreduce.input.lineinputformat.",
    "mapreduce.input.keyvaluelinerecordreader.",
    "mapreduce.output.textoutputformat.",
    "mapreduce.output.fileoutputformat.compress",
    "mapred.textoutputformat.",
    "mapred.output.compress",
    "mapred.output.compression.",
)
"""What begins so changes what Hadoop Streaming gives: a job that relies on it would give something else here."""
USUAL = {
    "stream.map.input.field.separator": "\t",
    "stream.reduce.input": "text",
    "stream.map.output": "text",
    "mapreduce.output.textoutputformat.separator": "\t",
    "mapreduce.output.fileoutputformat.compress": "false",
    "mapred.textoutputformat.separator": "\t",
    "mapred.output.compress": "false",
}
"""... but for what is so here."""


def check_properties(properties: Mapping[str, str]) -> None:
    """Raise `BadInput` for what is no property, or one that asks for what is not done."""
    from offerd_frameworks.mapreduce import keys

    known = {*keys.NAMES, *keys.OLD_NAMES, ANY_STATUS}
    for name, value in properties.items():
        if not name.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise BadInput(f"--define {name!r} is no property; write NAME=VALUE")
        if name.startswith(NOT_DONE) and name not in known and USUAL.get(name) != value:
            raise BadInput(f"--define {name}: what it asks for is not done here; leave it out")
    fails_by_status(properties)
    keys.read(properties)


def fails_by_status(properties: Mapping[str, str]) -> bool:
    """Whether a command that exits with another status than 0 has failed. Raises `BadInput`."""
    text = properties.get(ANY_STATUS, "true")
    if text.lower() not in ("true", "false"):
        raise BadInput(f"--define {ANY_STATUS}={text}: give true or false")
    return text.lower() == "true"


def number_of_reduces(option: int | None, properties: Mapping[str, str]) -> int:
    """As `--reduces` says, or the property that Hadoop has for it. Raises `BadInput`."""
    said = {} if option is None else {"--reduces": option}
    for name in REDUCES:
        if (text := properties.get(name)) is not None:
            if not text.isdecimal() or int(text) > MAX_REDUCES:
                raise BadInput(f"--define {name}={text} is no number from 0 to {MAX_REDUCES}")
            said[name] = int(text)
    if len(set(said.values())) > 1:
        raise BadInput(f"{' and '.join(said)} do not agree; give one of them")
    return next(iter(said.values()), 1)


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
    help="File, directory, data set, or pattern; several with commas, or repeated.",
)
@click.option("--output", required=True, metavar="DIR", help="Must not be there yet, or be empty.")
@click.option(
    "--reduces",
    type=click.IntRange(0, MAX_REDUCES),
    help="Part files; 0: no reducer.  [default: 1]",
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
@click.option(
    "-e", "--env", "--cmdenv", multiple=True, metavar="NAME=VALUE", help="Add to the commands' environment."
)
@click.option("--cpus", default="1", show_default=True, help="Of each task.")
@click.option("--mem", default="256M", show_default=True, help="Of each task.")
@click.option("--block-size", default="", metavar="SIZE", help="Of input for each map.  [default: up to 32M]")
@click.option("--time-limit", "--timeout", type=DURATION, help="Of each task.  [default: an honest guess]")
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
@placement_options
@click.option("--name", default="", help="What listings show.  [default: the mapper]")
def command(
    *,
    master: str,
    mapper: str,
    reducer: str,
    combiner: str,
    inputs: tuple[str, ...],
    output: str,
    reduces: int | None,
    files: tuple[str, ...],
    defines: tuple[str, ...],
    env: tuple[str, ...],
    cpus: str,
    mem: str,
    block_size: str,
    time_limit: float | None,
    locality_wait: float,
    attempts: int,
    no_speculation: bool,
    user: str,
    role: str,
    attributes: str,
    name: str,
) -> int:
    """Run a job: the mapper over the input, its output sorted by key, the reducer over that.

    \b
    offerd mapreduce --mapper 'tr -s "[:space:]" "\\n" | sed "/^$/d"' --reducer 'uniq -c' --input TEXTS --output OUT
    offerd mapreduce --mapper ./map.py --reducer ./reduce.py --file map.py --file reduce.py \\
                     --input data:logs --output OUT --reduces 4

    The commands follow Hadoop Streaming: KEY TAB VALUE lines, mapreduce_... variables, and on stderr
    reporter:counter:GROUP,NAME,N and reporter:status:TEXT. OUT holds part-00000 ..., which are sorted one after the other.
    """
    from offerd_cli.mapreducing import run_job
    from offerd_frameworks import mapreduce
    from offerd_frameworks.mapreduce import keys

    properties = parse_pairs(defines, "--define")
    check_properties(properties)
    environment = {key.replace(".", "_").replace("-", "_"): value for key, value in properties.items()}
    return run_job(
        mapreduce.Job(
            input=inputs,
            output=output,
            mapper=mapper,
            reducer=reducer,
            combiner=combiner,
            reduces=number_of_reduces(reduces, properties),
            files=files,
            name=name,
            cpus=cpus,
            mem=mem,
            block_bytes=parse_amount("disk", block_size) if block_size else None,
            time_limit_s=time_limit,
            delay_s=locality_wait,
            max_attempts=attempts,
            speculate=not no_speculation,
            keys=keys.of_keys(properties),
            any_status=not fails_by_status(properties),
            environment={**environment, **parse_pairs(env, "--env")},
            umask=own_umask(),
        ),
        master,
        user=user,
        role=role,
        attributes=read_attributes(attributes),
    )
