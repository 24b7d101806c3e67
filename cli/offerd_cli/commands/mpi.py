"""`offerd mpi`: run an MPI program on the cluster, all ranks at once."""

from __future__ import annotations

import os
from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, WholeNumber, given, master_option
from offerd_cli.task_options import (
    env_option,
    name_option,
    placement_options,
    read_attributes,
    read_environment,
)
from offerd_cli.units import task_resources, traveling


@click.command(
    short_help="Run an MPI program, all its ranks at once.",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.option(
    "-n",
    "--ranks",
    type=WholeNumber(1, 100_000),
    metavar="N",
    help="Number of ranks, each of them a process; needed with a program.  [default: none]",
)
@click.option(
    "--cpus", default="1", show_default=True, metavar="CPUS", help="CPUs for each rank, for example 0.5."
)
@click.option(
    "--mem", default="64M", show_default=True, metavar="SIZE", help="Memory for each rank, for example 2G."
)
@click.option(
    "--per-slave",
    type=WholeNumber(1),
    metavar="N",
    help="Largest number of ranks on one slave; 1 spreads them.  [default: as many as fit]",
)
@click.option(
    "--timeout",
    type=DURATION,
    help="Time limit after which the job is killed, for example 10m; up to the slaves' short limit it may use whole slaves.  "
    "[default: none]",
)
@click.option(
    "--resubmit",
    type=WholeNumber(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Number of times that the job starts again after the loss of a slave.",
)
@click.option(
    "--hold",
    type=DURATION,
    default="5s",
    show_default=True,
    help="Time that slots are held while others are missing, before they are given back.",
)
@click.option("--no-label", is_flag=True, help="Print lines without the rank number in front.")
@env_option
@placement_options
@name_option("the program")
@click.option(
    "--queue",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory of a queue of jobs: with a program, add a job; without, serve the queue until Ctrl-C.  [default: none]",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for the job that is added to --queue, print its output, and exit with its status.",
)
@click.option("--drain", is_flag=True, help="Serve --queue until it is empty, then stop.")
@click.option(
    "-C",
    "--cwd",
    default="",
    metavar="DIR",
    callback=given,
    help="Run in this directory, which must exist on the slaves, too.  [default: the current one]",
)
@master_option
@click.argument("words", nargs=-1, metavar="[--] PROGRAM...", type=click.UNPROCESSED)
def command(
    *,
    master: str,
    ranks: int | None,
    cpus: str,
    mem: str,
    per_slave: int | None,
    timeout: float | None,
    resubmit: int,
    hold: float,
    no_label: bool,
    env: tuple[str, ...],
    role: str,
    user: str,
    attributes: str,
    name: str,
    queue: Path | None,
    wait: bool,
    drain: bool,
    cwd: str,
    words: tuple[str, ...],
) -> int:
    """Run an MPI program (MPICH) on the cluster: all its ranks start together, or none.

    \b
    offerd mpi -n 4 -- ./hello
    offerd mpi -n 8 --per-slave 2 --timeout 10m -- ./heat
    offerd mpi --queue jobs                    # serve this queue
    offerd mpi --queue jobs -n 4 -- ./hello    # put a job into it

    The ranks run in the current directory (or that of -C). It must exist on the slaves, too, and so must the program. If one
    rank dies, the job ends.

    The exit status is the program's; 128 + the signal that ended it; 124 if the time limit was over; 130 after Ctrl-C.
    """
    if timeout is not None and timeout <= 0:
        raise BadInput("--timeout must be longer than 0s")
    if bool(words) != (ranks is not None):
        raise BadInput("say how many ranks of which program: offerd mpi -n 4 -- ./hello")
    if not words and queue is None:
        raise BadInput("nothing to run; write offerd mpi -n 4 -- ./hello, or --queue DIR to serve a queue")
    if (wait and (queue is None or not words)) or (drain and (queue is None or words)):
        raise BadInput("--wait needs --queue and a program, --drain needs --queue and no program")
    from offerd_cli import mpi_jobs

    service = mpi_jobs.Service(master, role, user, name, hold, read_attributes(attributes))
    if not words:
        assert queue is not None
        return mpi_jobs.serve(service, queue, drains=drain)
    job = mpi_jobs.make_job(
        name=name,
        words=tuple(map(traveling, words)),
        ranks=ranks or 1,
        need=task_resources(cpus, mem),
        per_slave=per_slave,
        time_limit_s=timeout,
        resubmits=resubmit,
        environment=read_environment(env),
        directory=traveling(os.path.abspath(cwd or ".")),
    )
    if queue is not None:
        return mpi_jobs.put(job, queue, waits=wait, labels=not no_label)
    return mpi_jobs.run(service, job, labels=not no_label)
