"""`offerd run`: a command on the cluster, as if it ran here."""

from __future__ import annotations

from dataclasses import replace

import click

from offerd import standard_streams
from offerd.errors import BadInput
from offerd_cli.options import master_option
from offerd_cli.task_options import TaskOptions, task_options
from offerd_cli.units import traveling


@click.command(
    short_help="Run a command on the cluster and stream its output.",
    context_settings={"allow_interspersed_args": False},
)
@master_option
@task_options(cpus="1", mem="128M", each="instance")
@click.option(
    "-n", "--instances", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many times."
)
@click.option("--no-stream", is_flag=True, help="Print each instance's output when it has ended.")
@click.argument("words", nargs=-1, required=True, metavar="[--] CMD...", type=click.UNPROCESSED)
def command(
    *,
    master: str,
    instances: int,
    task: TaskOptions,
    no_stream: bool,
    words: tuple[str, ...],
) -> int:
    """Run CMD on the cluster, stream what it writes, and end with its exit status.

    \b
    offerd run -- sh -c 'echo hello from $(hostname)'
    offerd run --image debian:12 -- cat /etc/os-release
    offerd run --cpus 0.5 --timeout 30s -n 20 -C . -- ./simulate --seed 7
    It begins in an empty directory of its own; -C names another on the slave's host.
    An instance knows its number: OFFERD_INSTANCE is 1 to OFFERD_INSTANCES.

    Its standard input is empty: one that holds something is refused, as it would be lost.
    What it writes comes whole: it waits when we are slower. Output that is lost is said, and is never status 0.
    Exit status: the command's; 124 when its time limit was over, 127 when it could not be started, 128 + signal. With several
    instances 1 if any failed. 130 after Ctrl-C, when all are killed.
    """
    if standard_streams.holds_input():
        raise BadInput("standard input is not carried to the command: give it a file, and write </dev/null")
    from offerd_cli.running import Job, run_job

    return run_job(
        Job(
            master=master,
            words=list(map(traveling, words)),
            task=replace(task, name=task.name or words[0].rpartition("/")[2]),
            instances=instances,
            streams=not no_stream,
        )
    )
