"""`offerd map`: a command once per argument, as xargs and GNU parallel do it, on the cluster."""

from __future__ import annotations

import os

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, cwd_option, master_option, role_option
from offerd_cli.units import own_umask, task_resources, traveling


@click.command(
    short_help="Run a command once per argument.", context_settings={"allow_interspersed_args": False}
)
@master_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="MAX",
    help="So many at once at most.  [default: what the cluster offers]",
)
@click.option("--cpus", default="0.1", show_default=True, help="Of each task.")
@click.option("--mem", default="32M", show_default=True, help="Of each task.")
@click.option(
    "--timeout", type=DURATION, default="60s", show_default=True, help="Kill a task after this time."
)
@click.option("-k", "--keep-order", is_flag=True, help="Print outputs in the order of the arguments.")
@click.option(
    "--retries",
    type=click.IntRange(0, 1000),
    default=0,
    show_default=True,
    help="Run a task that fails again so often.",
)
@click.option("--halt", is_flag=True, help="At the first failure kill the rest and end with status 1.")
@click.option("-0", "--null", is_flag=True, help="Arguments in FILE end with a zero byte, not with the line.")
@role_option
@click.option("--name", default="", help="What listings show.  [default: the command]")
@cwd_option
@click.argument("words", nargs=-1, required=True, metavar="[--] CMD... ::: ARG...", type=click.UNPROCESSED)
def command(
    *,
    master: str,
    jobs: int | None,
    cpus: str,
    mem: str,
    timeout: float,
    keep_order: bool,
    retries: int,
    halt: bool,
    null: bool,
    name: str,
    role: str,
    cwd: str,
    words: tuple[str, ...],
) -> int:
    """Run CMD once for each ARG, which replaces each {} in CMD or is appended to it.

    \b
    offerd map -C . -- gzip -9 {} ::: *.log
    offerd map -C . -- sh -c 'convert "$1" "${1%.png}.jpg"' convert ::: *.png
    find . -name '*.flac' -print0 | offerd map -C . -0 -- ./encode :::: -
    :::: FILE takes the arguments from the lines of FILE, - from stdin.

    A task begins in an empty directory of its own; -C names another on the slave's host. Each task's output is printed
    whole when it has ended; until then its slave keeps all of it, up to the task's share of the disk. Exit status: how many
    failed, or lost output, at most 100; 101 if more.
    """
    if timeout <= 0:
        raise BadInput("--timeout must be more than nothing")
    from offerd_cli.mapping import MapJob, map_job, split_words

    command_words, arguments = split_words(list(map(traveling, words)), null=null)
    return map_job(
        MapJob(
            master=master,
            words=command_words,
            directory=traveling(os.path.abspath(cwd)) if cwd else "",
            umask=own_umask(),
            arguments=arguments,
            resources=task_resources(cpus, mem),
            time_limit_s=timeout,
            max_running=jobs,
            keep_order=keep_order,
            retries=retries,
            halt=halt,
            name=name or command_words[0].rpartition("/")[2],
            role=role,
        )
    )
