"""`offerd demo`: see it work in less than a minute."""

from __future__ import annotations

import click


@click.command(
    short_help="Run MapReduce and MPI side by side on a cluster on this host, and check what comes out."
)
@click.option("--slaves", type=click.IntRange(1, 50), default=3, show_default=True, help="How many.")
@click.option(
    "--isolation",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto is the best that this host offers.",
)
def command(*, slaves: int, isolation: str) -> int:
    """Start a cluster on this host, count the words of Python's standard library on it, stop it again.

    The same count three times: in this process, and by two MapReduce frameworks that share the cluster, one of shell commands,
    one of Python functions; beside them an MPI job, where MPICH is installed. Exit status 1 if results differ, or if anything
    stays behind.
    """
    from offerd_cli.demonstration import demonstrate

    return demonstrate(slaves, isolation)
