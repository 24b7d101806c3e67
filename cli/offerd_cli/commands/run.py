"""`offerd run`: run a command on the cluster as if it ran here."""

from __future__ import annotations

from dataclasses import replace

import click

from offerd.errors import BadInput
from offerd.tasks import standard_streams
from offerd_cli.options import WholeNumber, master_option
from offerd_cli.task_options import TaskOptions, task_options
from offerd_cli.units import traveling


@click.command(
    short_help="Run a command on the cluster and stream its output.",
    context_settings={"allow_interspersed_args": False},
)
@task_options(cpus="1", mem="128M", each="instance")
@click.option(
    "-n",
    "--instances",
    type=WholeNumber(1, 100_000),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of instances of CMD to run.",
)
@click.option(
    "--no-stream", is_flag=True, help="Print the output of each instance as a whole, when it has ended."
)
@master_option
@click.argument("words", nargs=-1, required=True, metavar="[--] CMD...", type=click.UNPROCESSED)
def command(
    *,
    master: str,
    instances: int,
    task: TaskOptions,
    no_stream: bool,
    words: tuple[str, ...],
) -> int:
    """Run CMD on the cluster, stream its output, and exit with its status.

    \b
    offerd run -- sh -c 'echo hello from $(hostname)'
    offerd run --cpus 0.5 --timeout 30s -n 20 -- uptime
    offerd run --image debian:12 -- cat /etc/os-release
    offerd run -C . -- ./simulate --seed 7

    CMD starts in an empty directory of its own; -C names another one on the slave's host. Each instance finds its number (1, 2,
    ...) in OFFERD_INSTANCE, and the number of instances in OFFERD_INSTANCES.

    CMD has no standard input. If offerd's own standard input holds something, the command is refused, as that would be lost. No
    output is lost when its reader is slow: CMD waits. If output is lost for another reason, this is reported, and the exit
    status is not 0.

    The exit status is CMD's; 124 if its time limit was over, 127 if it could not be started, 128 + the signal that ended it.
    With several instances it is 1 if any of them failed; 130 after Ctrl-C, which kills them all.
    """
    if standard_streams.holds_input():
        raise BadInput(
            "standard input does not reach the command; give it a file instead, and add </dev/null"
        )
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
