"""`offerd drain`: empties slaves, from anywhere."""

from __future__ import annotations

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, master_option
from offerd_cli.screen import say


@click.command(short_help="Take slaves out: nothing new starts there, what runs may end.")
@master_option
@click.option(
    "--deadline",
    type=DURATION,
    metavar="TIME",
    help="End what still runs after so long, as 30m.  [default: never]",
)
@click.option("--kill", "kills", is_flag=True, help="End what runs now.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(
    *, master: str, deadline: float | None, kills: bool, no_wait: bool, slaves: tuple[str, ...]
) -> int:
    """Drain slaves, each named by its id or hostname, and wait until nothing runs there any more.

    A draining slave is given nothing new; what runs there goes on, until it ends or its time is over. What is ended then
    (`--deadline`, `--kill`) gets TERM, a grace, then KILL, and its framework hears TASK_KILLED with reason SLAVE_DRAINING.
    Asked again, with another deadline or with --kill, it hurries.

    A drained slave stays in the lists and out of the offers, also when it, its host or the master is started again, until
    `offerd activate` lets it in. Ctrl-C ends the waiting alone. On the slave's own host `offerd slave --drain` does the same.
    """
    from offerd.operator import OperatorClient
    from offerd_cli.draining import change_mode, wait_until_drained

    if kills and deadline is not None:
        raise BadInput("--kill ends what runs at once, --deadline later; choose one")
    with OperatorClient(master) as client:
        draining = change_mode(client, slaves, "draining", 0.0 if kills else deadline)
        status = 0 if len(draining) == len(set(slaves)) else 1
        if no_wait or not draining:
            return status
        try:
            all_drained = wait_until_drained(client, draining, is_ending=kills or deadline is not None)
        except KeyboardInterrupt:
            say(
                f"{', '.join(draining)}: draining goes on; `offerd slaves` shows it, `offerd activate` ends it"
            )
            raise
        return status if all_drained else 1
