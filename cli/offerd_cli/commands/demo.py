"""`offerd demo`: a whole cluster with two jobs, in less than a minute."""

from __future__ import annotations

import click

from offerd_cli.options import WholeNumber
from offerd_cli.slave_options import ISOLATION, LOCAL_SLAVES


@click.command(
    short_help="Run MapReduce and MPI side by side on a cluster on this host, and check the results."
)
@click.option(
    "--slaves",
    type=WholeNumber(1, 50),
    default=3,
    show_default=True,
    metavar="N",
    help="Number of slaves.",
)
@ISOLATION.click_option(LOCAL_SLAVES.defaults)
@click.option("--keep", is_flag=True, help="Leave the cluster up at the end, to be looked at, until Ctrl-C.")
def command(*, slaves: int, isolation: str, keep: bool) -> int:
    """Start a cluster on this host, run MapReduce and MPI on it side by side, check the results, and stop it again.

    \b
    offerd demo
    offerd demo --slaves 5
    offerd demo --keep

    The words of Python's standard library are counted three times: in this process, and by two MapReduce frameworks that share
    the cluster, one of shell commands and one of Python functions. An MPI job runs beside them if MPICH is installed.

    The exit status is 1 if results differ, or if anything is left behind.
    """
    from offerd_cli.demonstration import demonstrate

    return demonstrate(slaves, isolation, keeps=keep)
