"""`offerd top`: what the tasks use, live."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

import click

from offerd_cli.options import DURATION, json_option, master_option
from offerd_cli.screen import logged_to, say


@click.command(short_help="Show what the tasks use, live.")
@click.option(
    "--every",
    type=DURATION,
    default="2s",
    show_default=True,
    help="Time between two measurements, at least 100ms.",
)
@click.option(
    "--once", is_flag=True, help="Measure once, over the time of --every, and end; always so in a pipe."
)
@json_option
@master_option
def command(*, master: str, every: float, once: bool, as_json: bool) -> None:
    """Show what each task uses of what it holds, until Ctrl-C.

    \b
    offerd top
    offerd top --once --every 10s

    It shows CPU, memory that cannot be reclaimed (anonymous and shared, no page cache), how long a CPU quota has stopped the
    task, and the percentage of time in which some of its processes waited for CPU, memory or disk.

    Tasks in the same executor process share one row.
    """
    from rich.live import Live

    from offerd.errors import BadInput, MasterUnreachable
    from offerd.operator import OperatorClient
    from offerd_cli import documents, render, top

    if every < 0.1:
        raise BadInput("--every must be 100ms or more")
    out = render.console()
    with OperatorClient(master) as client:
        before = top.take_sample(client)
        if once or as_json or not sys.stdout.isatty():
            time.sleep(every)
            now = top.take_sample(client)
            found = top.rows(before, now)
            if as_json:
                rows = [top.row_document(row) for row in found]
                documents.print_document({"rows": rows, "missing": now.missing})
            else:
                _complain(now)
                if found:
                    render.print_table(out, top.table(found))
                else:
                    say("no tasks are running")
            return
        with Live(top.table([]), console=out, screen=True, auto_refresh=False) as live:
            screen = top.LiveTable(live)
            with logged_to(screen):
                client.tries_on = True
                while True:
                    # While the master is away the last table stays, under a line that says what is waited for.
                    with suppress(MasterUnreachable):
                        now = top.take_sample(client)
                        screen.show(top.rows(before, now)[: max(1, out.height - 2)])
                        before = now
                    time.sleep(every)


def _complain(sample: object) -> None:
    from offerd_cli.top import Sample

    assert isinstance(sample, Sample)
    for hostname, reason in sample.missing.items():
        say(f"offerd top: {hostname} does not answer: {reason}")
