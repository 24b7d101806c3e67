"""`offerd debug`: recordings of the events of a master or slave, and of its actions."""

from __future__ import annotations

from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION, json_option, master_option


@click.group(short_help="Record what a master or slave does, and replay it.")
def command() -> None:
    """Record what a master or slave does, and replay it: each event, and the actions that followed.

    \b
    offerd debug record --for 60s                  # the master
    offerd debug record --for 60s --slave node7
    offerd debug replay FILE --grep sleep-3f9a2c   # the story of one task

    Masters and slaves always keep their latest events in memory. They write them when an error occurs, or on SIGUSR2: a master
    into the directory `recordings` of its --state-dir, a slave into that of its --work-dir. A recording holds what tasks were
    given, including passwords in their environment, and that of a slave also its executors' tokens: whoever can read the file
    can read these. The secrets of file servers are left out.
    """


@command.command(short_help="Record the events of a master or slave.")
@click.option(
    "--for",
    "for_s",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="Time to record from now on, above 0s and at most 10m.",
)
@click.option(
    "--slave",
    default="",
    metavar="NAME",
    help="Record this slave (id or hostname), not the master.  [default: the master]",
)
@master_option
@json_option
def record(*, for_s: float, slave: str, master: str, as_json: bool) -> None:
    """Record what the master, or a slave, does, and print where the recording is.

    \b
    offerd debug record --for 60s
    offerd debug record --slave node7

    The recording begins before the request if the daemon still has earlier events in memory. It is on the daemon's own host,
    where root and the daemon's user can read it. This needs an operator's key.

    It holds what tasks were given, including passwords in their environment; look into it before you send it to others.
    """
    from offerd.operator import OperatorClient
    from offerd.values.screen_text import printable
    from offerd_cli.documents import print_document
    from offerd_cli.screen import say

    if for_s <= 0:
        raise BadInput("--for must be longer than 0s")
    with OperatorClient(master) as client:
        made = client.record_events(for_s, slave)
    if as_json:
        print_document({"host": made.host, "path": made.path, "can_be_replayed": made.is_whole})
        return
    click.echo(printable(made.path, None))
    say(f"offerd: the recording is on {made.host}")
    if not made.is_whole:
        say(
            "offerd: too much happened: the recording holds only the last events, without the state before them"
        )


@command.command(short_help="Show what happened in a recording.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--grep",
    default="",
    metavar="ID",
    help="Show only steps that mention this text, for example the id of a task, slave or framework.  [default: all]",
)
@click.option(
    "--until",
    type=DURATION,
    default=None,
    metavar="DURATION",
    help="Stop this long after the first event, for example 5s.  [default: at the end]",
)
@click.option(
    "--ticks",
    is_flag=True,
    help="Show steps that had no event and changed nothing, too.",
)
@click.option("--full", is_flag=True, help="Show long events and actions in full.")
@json_option
def replay(*, file: Path, grep: str, until: float | None, ticks: bool, full: bool, as_json: bool) -> int:
    """Run the events of a recording through the daemon's own code, and print each with the actions that follow.

    \b
    offerd debug replay master-20261130T182756-4711-001.recording
    offerd debug replay FILE --grep sleep-3f9a2c --until 30s

    Nothing is sent and nothing is run. A version of offerd other than the recorded one may decide differently; the first lines
    say so.
    """
    from offerd_cli.replaying import PrintOptions, print_recording

    return print_recording(file, PrintOptions(grep, until, has_ticks=ticks, is_full=full, is_json=as_json))
