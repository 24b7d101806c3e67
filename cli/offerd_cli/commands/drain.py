"""`offerd drain`: empties slaves, from anywhere."""

from __future__ import annotations

import time

import click

from offerd_cli.options import master_option
from offerd_cli.screen import say

LOOK_AGAIN_S = 0.2


@click.command(short_help="End a slave's tasks politely, and the slave.")
@master_option
@click.option("--no-wait", is_flag=True, help="Return at once.")
@click.argument("slaves", nargs=-1, required=True, metavar="SLAVE...")
def command(*, master: str, no_wait: bool, slaves: tuple[str, ...]) -> int:
    """Drain slaves, each named by its id or hostname, and wait until they are gone.

    A draining slave is offered nothing; its tasks get TERM, a grace, then KILL, and their frameworks hear TASK_KILLED with
    reason SLAVE_DRAINING. It goes on draining when it is restarted meanwhile, or when another master leads. Then it leaves the
    cluster and ends; start it again to have it back. On the slave's own host `offerd slave --drain` does the same.
    """
    from offerd.errors import OfferdError
    from offerd.operator import OperatorClient

    status = 0
    waiting: set[str] = set()
    with OperatorClient(master) as client:
        for name in slaves:
            try:
                client.change_slave_mode(name, "draining")
                waiting.add(name)
            except OfferdError as error:
                say(f"offerd: {name}: {error}")
                status = 1
        if waiting and not no_wait:
            say(f"draining {', '.join(sorted(waiting))}")
        while waiting and not no_wait:
            time.sleep(LOOK_AGAIN_S)
            there = {name for slave in client.slaves() for name in (slave.info.slave_id, slave.info.hostname)}
            waiting &= there
    return status
