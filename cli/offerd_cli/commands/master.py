"""`offerd master`: the daemon that makes the offers."""

from __future__ import annotations

from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.master_file import MasterFile, policy, take_file
from offerd_cli.options import DURATION


@click.group(invoke_without_command=True, short_help="The daemon that makes the offers.")
@click.option("--ip", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5060, show_default=True, help="0 = a free one."
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The master's secret key: hear only peers with keys (`offerd keys`).",
)
@click.option(
    "--authorized",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML: whose keys these are, and what each may do.",
)
@click.option(
    "--insecure", is_flag=True, help="Run without keys: whoever reaches it may command every slave."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    callback=take_file,
    is_eager=True,
    metavar="FILE",
    help="TOML: these flags by name, and an [allocation] table.",
)
@click.option(
    "--allocator",
    default="drf",
    show_default=True,
    metavar="NAME",
    help="drf, priority, lottery, or another installed allocation module.",
)
@click.option(
    "--weights", default="", metavar="ROLE=W,...", help="A role of weight 2 gets twice the share of one of 1."
)
@click.option("--priorities", default="", metavar="ROLE=N,...", help="Of roles; the highest goes first.")
@click.option(
    "--guarantee", "guarantees", multiple=True, metavar="ROLE=RESOURCES", help="As in prod=cpus=4,mem=8G."
)
@click.option("--limit", "limits", multiple=True, metavar="ROLE=RESOURCES", help="All that a role may hold.")
@click.option(
    "--revoke-after",
    type=DURATION,
    default="5s",
    show_default=True,
    help="A framework under its guarantee waits so long before others' tasks are killed for it.",
)
@click.option(
    "--revoke-grace",
    type=DURATION,
    default="30s",
    show_default=True,
    help="From the notice to the kill.",
)
@click.option(
    "--operator-grace",
    type=DURATION,
    default="5s",
    show_default=True,
    help="From TERM to KILL where tasks are ended by operators, or for others.",
)
@click.option(
    "--max-failover-timeout",
    type=DURATION,
    default="7d",
    show_default=True,
    help="Longest that the tasks of a framework wait for a scheduler, or for their slave.",
)
@click.option(
    "--minimum-offer",
    default="cpus=0.001,mem=1M",
    show_default=True,
    metavar="RESOURCES",
    help="A slave with less free is not offered; slaves may say otherwise.",
)
@click.option(
    "--offer-timeout",
    type=DURATION,
    default="30s",
    show_default=True,
    help="Offers not answered so long are rescinded.",
)
@click.option(
    "--ping-interval",
    type=DURATION,
    default="5s",
    show_default=True,
    help="How often slaves and schedulers are pinged.",
)
@click.option(
    "--missed-pings",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Pings unanswered until a peer is lost.",
)
@click.option(
    "--zk",
    default="",
    metavar="HOST:PORT,.../PATH",
    help="Stand for election in this ZooKeeper; lead only when elected.",
)
@click.option(
    "--zk-credentials",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="NAME:PASSWORD of masters in ZooKeeper.  [default: made from --key]",
)
@click.option(
    "--zk-session-timeout",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long after a leader's last word another is elected.",
)
@click.option(
    "--advertise-ip", default="", metavar="IP", help="Where others reach this master.  [default: --ip]"
)
@click.option(
    "--advertise-port", type=click.IntRange(0, 65535), default=0, help="The same.  [default: --port]"
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where keys that have joined are kept.  [default: /var/lib/offerd/master as root]",
)
@click.option("--address-file", type=click.Path(path_type=Path), help="Write HOST:PORT here when it listens.")
@click.option("--die-with-parent", is_flag=True, help="End (as by SIGTERM) when the parent process does.")
@click.pass_context
def command(
    context: click.Context,
    *,
    ip: str,
    port: int,
    key: Path | None,
    authorized: Path | None,
    insecure: bool,
    config: MasterFile,
    allocator: str,
    weights: str,
    priorities: str,
    guarantees: tuple[str, ...],
    limits: tuple[str, ...],
    revoke_after: float,
    revoke_grace: float,
    operator_grace: float,
    max_failover_timeout: float,
    minimum_offer: str,
    offer_timeout: float,
    ping_interval: float,
    missed_pings: int,
    zk: str,
    zk_credentials: Path | None,
    zk_session_timeout: float,
    advertise_ip: str,
    advertise_port: int,
    state_dir: Path | None,
    address_file: Path | None,
    die_with_parent: bool,
) -> int:
    """Make the offers of a cluster. `offerd master init` makes the keys and the configuration of a new one.

    It keeps nothing on disk but whose keys have joined (--state-dir, or ZooKeeper): one that is started again learns everything
    else from the slaves and the schedulers.
    With --zk several run, one leads, and the others take over when it dies:

    \b
    offerd master --zk zoo1:2181,zoo2:2181,zoo3:2181/offerd      on two or three hosts
    offerd slave --master zk://zoo1:2181,zoo2:2181,zoo3:2181/offerd
    A leader that cannot be sure to lead any more ends with status 1: have systemd start it again.

    With --config SIGHUP has the [allocation] table read anew: weights, priorities, guarantees and limits; with --key, the file
    of the authorized, too.
    """
    if context.invoked_subcommand is not None:
        return 0
    if die_with_parent:
        from offerd_cli import parent

        parent.die_with_parent()

    from offerd.keys import read_secret
    from offerd.leader import parse_zookeeper
    from offerd.resources import Resources
    from offerd.zookeeper_access import read_access
    from offerd_master.allocation.policy import Policy
    from offerd_master.daemon import MasterOptions, run_master
    from offerd_master.gate import read_principals
    from offerd_master.principals import Principals
    from offerd_master.settings import Settings

    if (key is None) != (authorized is None):
        raise BadInput("--key and --authorized go together: the master's own key, and whose others are heard")
    settings = Settings(
        offer_timeout_s=offer_timeout,
        ping_interval_s=ping_interval,
        max_missed_pings=missed_pings,
        allocator=allocator,
        policy=policy(config.table, weights, priorities, guarantees, limits),
        minimum_offer=Resources.parse(minimum_offer),
        revoke_after_s=revoke_after,
        revoke_grace_s=revoke_grace,
        operator_grace_s=operator_grace,
        max_failover_timeout_s=max_failover_timeout,
    )

    def read_policy() -> Policy:
        table = config.read_again().table
        if table.get("module", allocator) != allocator:
            raise BadInput(f"[allocation]: the module is {allocator}; another one needs a restart")
        return policy(table, weights, priorities, guarantees, limits)

    def principals() -> Principals:
        return read_principals(authorized) if authorized is not None else {}

    if zk_credentials is not None and not zk:
        raise BadInput("--zk-credentials are for a master in a ZooKeeper: name it with --zk")
    if zk_session_timeout < 1:
        raise BadInput("--zk-session-timeout must be a second or more")
    return run_master(
        MasterOptions(
            ip=ip,
            port=port,
            insecure=insecure,
            address_file=address_file,
            zookeeper=parse_zookeeper(zk) if zk else None,
            zookeeper_access=read_access(zk_credentials) if zk_credentials is not None else None,
            session_timeout_s=zk_session_timeout,
            advertise_ip=advertise_ip,
            advertise_port=advertise_port,
            settings=settings,
            read_policy=read_policy if config.path is not None else None,
            secret=read_secret(key) if key is not None else "",
            read_principals=principals,
            state_dir=state_dir,
        )
    )


@command.command("init", short_help="Make keys and configuration, and start it.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to put them.  [default: /etc/offerd as root]",
)
@click.option("--name", default="", help="Of the cluster, for `offerd cluster`.  [default: this host's]")
@click.option("--ip", default="", help="Address to listen on.  [default: by which others reach this host]")
@click.option("--port", type=click.IntRange(1, 65535), default=5060, show_default=True)
@click.option(
    "--advertise", default="", metavar="HOST[:PORT]", help="Where others reach it.  [default: --ip, --port]"
)
@click.option(
    "--zk",
    default="",
    metavar="HOST:PORT,.../PATH",
    help="The ZooKeeper in which masters elect their leader.",
)
@click.option("--no-start", is_flag=True, help="Only make them.")
def init(
    *, directory: Path | None, name: str, ip: str, port: int, advertise: str, zk: str, no_start: bool
) -> None:
    """Make this host the master of a new cluster: its keys, a file of the authorized in which this account is an operator,
    and its configuration. It ends when the master runs and answers.

    \b
    offerd master init                                here
    offerd token new --slave                          here; it prints a word
    offerd slave join HOST:5060 WORD                  on each host that shall run tasks
    A second master of the same cluster (with --zk) gets a copy of the files, and is started with `offerd master --config`.
    """
    from offerd_cli.founding import Founding, announce, found

    found(
        Founding(
            directory=directory, name=name, ip=ip, port=port, advertise=advertise, zk=zk, starts=not no_start
        ),
        announce,
    )
