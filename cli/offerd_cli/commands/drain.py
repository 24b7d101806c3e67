"""`offerd drain`: empty slaves, from any host."""

from __future__ import annotations

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, master_option
from offerd_cli.screen import say


@click.command(short_help="Empty slaves: no new tasks start there, running ones may finish.")
@click.option(
    "--deadline",
    type=DURATION,
    help="Time after which tasks that still run are ended, for example 30m.  [default: never]",
)
@click.option("--kill", "kills", is_flag=True, help="End all running tasks at once.")
@click.option("--no-wait", is_flag=True, help="Return at once, while the slaves drain.")
@master_option
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(
    *, master: str, deadline: float | None, kills: bool, no_wait: bool, slaves: tuple[str, ...]
) -> int:
    """Drain slaves, each named by its id or hostname, and wait until no task runs there.

    \b
    offerd drain host7
    offerd drain --deadline 30m host7 host8

    A draining slave gets no new tasks. Running tasks go on until they end, or until the deadline: then they get TERM and, after
    a grace, KILL, and their frameworks get TASK_KILLED with the reason SLAVE_DRAINING. To change the deadline, run the command
    again with another --deadline or with --kill.

    A drained slave is listed but not offered until `offerd activate`, also after restarts of the slave, its host or the master.
    Ctrl-C ends only the waiting. `offerd slave --drain` does the same on the slave's own host.
    """
    from offerd.operator import OperatorClient
    from offerd_cli.draining import change_mode, wait_until_drained

    if kills and deadline is not None:
        raise BadInput("--kill ends running tasks at once, --deadline later; choose one")
    with OperatorClient(master) as client:
        draining = change_mode(client, slaves, "draining", 0.0 if kills else deadline)
        status = 0 if len(draining) == len(set(slaves)) else 1
        if no_wait or not draining:
            return status
        try:
            all_drained = wait_until_drained(client, draining, is_ending=kills or deadline is not None)
        except KeyboardInterrupt:
            say(
                f"{', '.join(draining)}: still draining; `offerd slaves` shows the state, `offerd activate` ends it"
            )
            raise
        return status if all_drained else 1
