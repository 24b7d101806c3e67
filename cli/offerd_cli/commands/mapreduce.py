"""`offerd mapreduce`: the command line of Hadoop Streaming, on the cluster."""

from __future__ import annotations

from collections.abc import Mapping

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, WholeNumber, master_option
from offerd_cli.task_options import name_option, placement_options, read_attributes
from offerd_cli.units import check_size, own_umask, parse_amount, parse_pairs

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
"""Properties with these prefixes change the results of Hadoop Streaming. A job that relies on one would be wrong here."""
USUAL = {
    "stream.map.input.field.separator": "\t",
    "stream.reduce.input": "text",
    "stream.map.output": "text",
    "mapreduce.output.textoutputformat.separator": "\t",
    "mapreduce.output.fileoutputformat.compress": "false",
    "mapred.textoutputformat.separator": "\t",
    "mapred.output.compress": "false",
}
"""Exceptions: with these values, the result is the one that offerd gives."""


def check_properties(properties: Mapping[str, str]) -> None:
    """Raise `BadInput` if a name is not a property, or is one that offerd does not support."""
    from offerd_frameworks.mapreduce import keys

    known = {*keys.NAMES, *keys.OLD_NAMES, ANY_STATUS}
    for name, value in properties.items():
        if not name.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise BadInput(f"--define {name!r} is not a property; write NAME=VALUE")
        if name.startswith(NOT_DONE) and name not in known and USUAL.get(name) != value:
            raise BadInput(f"--define {name}: offerd mapreduce does not support this property; leave it out")
    fails_by_status(properties)
    keys.read(properties)


def fails_by_status(properties: Mapping[str, str]) -> bool:
    """Whether a command fails if its exit status is not 0. Raises `BadInput`."""
    text = properties.get(ANY_STATUS, "true")
    if text.lower() not in ("true", "false"):
        raise BadInput(f"--define {ANY_STATUS}={text}: give true or false")
    return text.lower() == "true"


def number_of_reduces(option: int | None, properties: Mapping[str, str]) -> int:
    """The value of `--reduces`, or of Hadoop's property for it. Raises `BadInput`."""
    said = {} if option is None else {"--reduces": option}
    for name in REDUCES:
        if (text := properties.get(name)) is not None:
            if not text.isdecimal() or int(text) > MAX_REDUCES:
                raise BadInput(f"--define {name}={text} is not a number from 0 to {MAX_REDUCES}")
            said[name] = int(text)
    if len(set(said.values())) > 1:
        raise BadInput(f"{' and '.join(said)} do not agree; give one of them")
    return next(iter(said.values()), 1)


@click.command(short_help="Run a MapReduce job of any programs.")
@click.option(
    "--mapper",
    required=True,
    metavar="CMD",
    help="Command that reads lines of the input and writes lines of KEY TAB VALUE.",
)
@click.option(
    "--reducer",
    default="",
    metavar="CMD",
    help="Command that reads the mapper's lines, sorted by key; needed unless --reduces is 0.  [default: none]",
)
@click.option(
    "--combiner",
    default="",
    metavar="CMD",
    help="Command that reduces the sorted output of each map first.  [default: none]",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="PATH|data:SET",
    help="File, directory, pattern or data set to read; may be repeated, or list several with commas.",
)
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="Directory for the result, which must be empty or not exist yet.",
)
@click.option(
    "--reduces",
    type=WholeNumber(0, MAX_REDUCES),
    metavar="N",
    help="Number of reduce tasks, and so of part files; 0 means no reducer.  [default: 1]",
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    help="Copy this file into the directory of each task; may be repeated.",
)
@click.option(
    "-D",
    "--define",
    "defines",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a property of Hadoop's; the commands see a.b as the variable a_b.",
)
@click.option(
    "-e",
    "--env",
    "--cmdenv",
    multiple=True,
    metavar="NAME=VALUE",
    help="Add this variable to the environment of the commands; may be repeated.",
)
@click.option(
    "--cpus", default="1", show_default=True, metavar="CPUS", help="CPUs for each task, for example 0.5."
)
@click.option(
    "--mem", default="256M", show_default=True, metavar="SIZE", help="Memory for each task, for example 2G."
)
@click.option(
    "--block-size",
    default="",
    metavar="SIZE",
    help="Size of the input of each map task, for example 64M.  [default: up to 32M]",
)
@click.option(
    "--time-limit",
    "--timeout",
    type=DURATION,
    help="Time limit of each task, for example 5m.  [default: chosen, and printed when the job begins]",
)
@click.option(
    "--locality-wait",
    type=DURATION,
    default="5s",
    show_default=True,
    help="Time that a map waits for a slave with its block, before it reads the block over the network.",
)
@click.option(
    "--attempts",
    type=WholeNumber(1, 100),
    default=4,
    show_default=True,
    metavar="N",
    help="Number of times that a task may fail before the job does.",
)
@click.option("--no-speculation", is_flag=True, help="Do not start a second copy of a slow task.")
@placement_options
@name_option("the mapper")
@master_option
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
    """Run a MapReduce job: the mapper reads the input, its output is sorted by key, the reducer reads that.

    \b
    offerd mapreduce --mapper 'tr -s "[:space:]" "\\n" | sed "/^$/d"' \\
           --reducer 'uniq -c' --input texts --output counts
    offerd mapreduce --mapper ./map.py --reducer ./reduce.py \\
           --file map.py --file reduce.py --reduces 4 \\
           --input data:logs --output out

    The commands follow Hadoop Streaming: they read and write lines of KEY TAB VALUE, get variables mapreduce_..., and may write
    reporter:counter:GROUP,NAME,N and reporter:status:TEXT to stderr. The output directory gets part-00000 and so on, each
    sorted.
    """
    from offerd_cli.mapreducing import run_job
    from offerd_frameworks import mapreduce
    from offerd_frameworks.mapreduce import keys

    check_size(cpus, mem)
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
            block_bytes=parse_amount("disk", block_size, "--block-size") if block_size else None,
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
