"""`offerd master`: the daemon that makes the offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from offerd_cli.master_file import MasterFile, take_file
from offerd_cli.master_options import MASTER, master_options, policy_options
from offerd_cli.options import WholeNumber, die_with_parent_option, no_start_option


@click.group(invoke_without_command=True, short_help="Run the daemon that makes the offers.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    callback=take_file,
    is_eager=True,
    metavar="FILE",
    help="TOML file with these options by name, and an [allocation] table.  [default: none]",
)
@click.option(
    "--authorized",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of the public keys that are admitted, with what each may do.  [default: none]",
)
@MASTER.options
@policy_options
@die_with_parent_option
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    config: MasterFile,
    authorized: Path | None,
    die_with_parent: bool,
    **words: Any,
) -> int:
    """Run the daemon that makes the offers of a cluster.

    \b
    offerd master init    # begin here
    offerd master --config /etc/offerd/master.toml

    `offerd master init` makes a new cluster: its keys, its configuration, and the service that runs the second command.

    A master keeps only the keys that have joined (in --state-dir, or in ZooKeeper). After a restart it learns everything else
    from the slaves and schedulers. Its recordings (`offerd debug`) are in --state-dir, too.

    With --zk several masters run, one of them leads, and another takes over when that one ends:

    \b
    offerd master --zk zoo1:2181,zoo2:2181,zoo3:2181/offerd
    offerd slave --master zk://zoo1:2181,zoo2:2181,zoo3:2181/offerd

    A leader that cannot be sure that it still leads ends with status 1; systemd should start it again.

    On SIGHUP a master with --config reads the [allocation] table again (weights, priorities, guarantees, limits), and a master
    with --key reads the --authorized file again.

    On SIGUSR2 it writes a recording of what it has seen last (see `offerd debug --help`).
    """
    if context.invoked_subcommand is not None:
        return 0
    if die_with_parent:
        from offerd_linux import prctl

        prctl.end_with_parent()

    from offerd_master.process import run_master

    return run_master(master_options(config, authorized, words))


@command.command("init", short_help="Make the keys and configuration of a new cluster, and start its master.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for keys and configuration.  [default: /etc/offerd as root, else ~/.config/offerd]",
)
@click.option(
    "--name",
    default="",
    metavar="NAME",
    help="Name of the cluster for `offerd cluster`.  [default: this host's name]",
)
@click.option(
    "--ip",
    default="",
    metavar="ADDRESS",
    help="Address to listen on.  [default: this host's address in the network]",
)
@click.option(
    "--port",
    type=WholeNumber(1, 65535),
    default=5060,
    show_default=True,
    metavar="N",
    help="Port to listen on.",
)
@click.option(
    "--advertise",
    default="",
    metavar="HOST[:PORT]",
    help="Address at which others reach the master.  [default: --ip and --port]",
)
@click.option(
    "--zk",
    default="",
    metavar="HOST:PORT,.../PATH",
    help="ZooKeeper in which several masters elect their leader.  [default: none]",
)
@no_start_option
def init(
    *, directory: Path | None, name: str, ip: str, port: int, advertise: str, zk: str, no_start: bool
) -> None:
    """Make this host the master of a new cluster: its keys, its configuration, and the running master.

    \b
    offerd master init                  # on this host
    offerd token new --slave            # on this host: prints a TOKEN
    offerd slave join HOST:5060 TOKEN    # on each host that will run tasks

    This account becomes an operator of the cluster. The command ends when the master answers.

    A second master of the same cluster (with --zk) needs a copy of these files; start it with `offerd master --config FILE`.
    """
    from offerd_cli.founding import Founding, announce, found

    found(
        Founding(
            directory=directory, name=name, ip=ip, port=port, advertise=advertise, zk=zk, starts=not no_start
        ),
        announce,
    )
