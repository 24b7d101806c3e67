"""`offerd map`: run a command once for each argument on the cluster, as xargs and GNU parallel do."""

from __future__ import annotations

from dataclasses import replace

import click

from offerd_cli.options import WholeNumber, master_option
from offerd_cli.task_options import TaskOptions, task_options
from offerd_cli.units import traveling


@click.command(
    short_help="Run a command once for each argument, as xargs does, on the cluster.",
    context_settings={"allow_interspersed_args": False},
)
@task_options(cpus="0.1", mem="32M", each="task")
@click.option(
    "-j",
    "--jobs",
    type=WholeNumber(1),
    metavar="N",
    help="Largest number of tasks that run at once.  [default: as many as the cluster offers]",
)
@click.option("-k", "--keep-order", is_flag=True, help="Print the outputs in the order of the arguments.")
@click.option(
    "--retries",
    type=WholeNumber(0, 1000),
    default=0,
    show_default=True,
    metavar="N",
    help="Number of times that a failed task is run again.",
)
@click.option(
    "--halt", is_flag=True, help="Kill all other tasks at the first failure, and exit with status 1."
)
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="Read arguments that end with a zero byte instead of a newline; they may be empty.",
)
@master_option
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="[--] CMD... [::: ARG...|:::: FILE...]...",
    type=click.UNPROCESSED,
)
def command(
    *,
    master: str,
    jobs: int | None,
    task: TaskOptions,
    keep_order: bool,
    retries: int,
    halt: bool,
    null: bool,
    words: tuple[str, ...],
) -> int:
    """Run CMD once for each ARG, which replaces {} in CMD or is appended to it.

    \b
    offerd map -- wc -l {} ::: /etc/*.conf
    offerd map -C . -- gzip -9 {} ::: *.log
    offerd map -C . -- convert {} {.}.jpg ::: *.png
    offerd map -C . -- ./fit --seed {1} --rate {2} ::: 1 2 3 ::: 0.1 0.01
    find . -name '*.flac' -print0 | offerd map -C . -0 -- ./encode :::: -

    :::: FILE takes the arguments from the lines of FILE, or of standard input if FILE is - or no source is named; empty lines
    are skipped. Several sources are combined in all ways; a source that begins with :::+ or ::::+ is linked to the one before
    it, line by line.

    {.} is the argument without its extension, {/} without its directories, {//} its directory, {/.} its name without extension,
    {#} its number. {2} is the argument of the second source, {2.} the same without its extension, {-1} that of the last source.

    Each task starts in an empty directory of its own; -C names another one on the slave's host. Its output is printed as a
    whole when it has ended; until then its slave keeps it, up to the task's share of the disk.

    The exit status is the number of tasks that failed or lost output, up to 100; 101 means more.
    """
    from offerd_cli.arguments import split_words
    from offerd_cli.mapping import MapJob, map_job

    command_words, arguments = split_words(list(map(traveling, words)), null=null)
    return map_job(
        MapJob(
            master=master,
            words=command_words,
            arguments=arguments,
            task=replace(task, name=task.name or command_words[0].rpartition("/")[2]),
            max_running=jobs,
            keep_order=keep_order,
            retries=retries,
            halt=halt,
        )
    )
