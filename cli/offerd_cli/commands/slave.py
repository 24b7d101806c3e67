"""`offerd slave`: the daemon that runs tasks on its host. `--drain` and `--activate` are for the slave that runs already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from offerd.errors import BadInput
from offerd_cli.config_file import take_config
from offerd_cli.options import DURATION, WholeNumber, die_with_parent_option, master_option, no_start_option
from offerd_cli.slave_options import SLAVE, default_work_dir, slave_options

work_dir_option = click.option(
    "--work-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for the slave's state and the sandboxes of tasks.  [default: "
    "/var/lib/offerd/slave as root, else ~/.local/state/offerd/slave]",
)


def _wish(work_dir: Path, *, drain: bool, activate: bool, kill: bool, deadline_s: float | None) -> int:
    """Change the mode of the slave that runs on this work directory."""
    from offerd_cli.slave_wishes import activate_slave, drain_slave

    if drain == activate or (activate and (kill or deadline_s is not None)):
        raise BadInput("give --drain, with --deadline or --kill if you like, or --activate alone")
    if kill and deadline_s is not None:
        raise BadInput("--kill ends running tasks at once, --deadline later; choose one")
    return activate_slave(work_dir) if activate else drain_slave(work_dir, 0.0 if kill else deadline_s)


@click.group(invoke_without_command=True, short_help="Run the daemon that runs tasks on this host.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    callback=take_config,
    is_eager=True,
    expose_value=False,
    metavar="FILE",
    help="TOML file with these options by name.  [default: none]",
)
@work_dir_option
@SLAVE.options
@die_with_parent_option
@click.option(
    "--drain",
    is_flag=True,
    help="Drain the slave that runs on the work directory, and wait until no task runs there.",
)
@click.option(
    "--deadline",
    type=DURATION,
    help="Time after which --drain ends tasks that still run, for example 30m.  [default: never]",
)
@click.option("--kill", is_flag=True, help="End all running tasks at once (with --drain).")
@click.option("--activate", is_flag=True, help="Offer the slave that runs on the work directory again.")
@master_option
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    master: str,
    work_dir: Path | None,
    die_with_parent: bool,
    drain: bool,
    deadline: float | None,
    kill: bool,
    activate: bool,
    **words: Any,
) -> int:
    """Run the daemon that runs tasks on this host.

    \b
    offerd slave join 10.0.0.1:5060 TOKEN    # begin here
    offerd slave --config /etc/offerd/slave.toml

    `offerd slave join` makes this host a slave of a cluster: its keys, its configuration, and the service that runs the second
    command.

    SIGTERM ends the slave alone: its tasks go on, and the next slave on the same work directory adopts them. On SIGUSR2 it
    writes a recording of what it has seen last (see `offerd debug --help`).

    `offerd slave --drain` drains the slave, also over restarts, until `offerd slave --activate` (see `offerd drain --help`).
    """
    if context.invoked_subcommand is not None:
        return 0
    where = work_dir if work_dir is not None else default_work_dir()
    if drain or activate or kill or deadline is not None:
        return _wish(where, drain=drain, activate=activate, kill=kill, deadline_s=deadline)
    if die_with_parent:
        from offerd_linux import prctl

        prctl.end_with_parent()
    options = slave_options(master, where, words)

    from offerd.daemons.daemon_log import log_to_stderr
    from offerd_slave.process import run_slave

    log_to_stderr("offerd.slave", "offerd.recorder", "offerd.zookeeper")
    return run_slave(options)


@command.command("join", short_help="Make this host a slave of a cluster.")
@click.option(
    "--name",
    default="",
    metavar="NAME",
    help="Name by which the cluster knows this host.  [default: the hostname]",
)
@click.option(
    "--ip",
    default="",
    metavar="ADDRESS",
    help="Address to listen on.  [default: the one from which the master is reached]",
)
@click.option(
    "--cluster",
    default="",
    metavar="NAME",
    help="Name of the cluster for `offerd cluster`.  [default: the master's host]",
)
@click.option(
    "--http-port",
    type=WholeNumber(0, 65535),
    metavar="N",
    help="Port on which sandbox files are served; 0 takes a free one.  [default: 5051]",
)
@work_dir_option
@no_start_option
@click.argument("where", metavar="HOST[:PORT]")
@click.argument("token")
def join_cluster(
    *,
    where: str,
    token: str,
    name: str,
    ip: str,
    cluster: str,
    http_port: int | None,
    work_dir: Path | None,
    no_start: bool,
) -> None:
    """Make this host a slave of the cluster whose master is at HOST.

    \b
    offerd slave join 10.0.0.1:5060 TOKEN
    offerd slave join 10.0.0.1:5060 - <token.txt

    An operator makes the TOKEN with `offerd token new --slave`. Other accounts of this host can read a command line; give - as
    TOKEN to read it from standard input. HOST may also be zk://HOST:PORT,.../path; without :PORT it is port 5060.

    The secret key of this host is made here and stays here. The command ends when the slave has registered. All that the slave
    needs from then on is in /etc/offerd (as root).
    """
    from offerd_cli.founding import announce
    from offerd_cli.slave_joining import SlaveJoining, join

    join(
        SlaveJoining(
            master=where,
            token=token,
            name=name,
            ip=ip,
            cluster=cluster,
            http_port=http_port,
            work_dir=work_dir,
            starts=not no_start,
        ),
        announce,
    )
