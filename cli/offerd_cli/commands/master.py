"""`offerd master`: the daemon that makes the offers."""

from __future__ import annotations

from pathlib import Path

import click

from offerd.errors import BadInput
from offerd_cli.options import DURATION
from offerd_cli.units import parse_pairs


@click.command(short_help="The daemon that makes the offers.")
@click.option("--ip", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5060, show_default=True, help="0 = a free one."
)
@click.option("--insecure", is_flag=True, help="Allow an address that others can reach, without keys.")
@click.option(
    "--allocator", default="drf", show_default=True, metavar="NAME", help="An installed allocation module."
)
@click.option(
    "--weights", default="", metavar="ROLE=W,...", help="A role of weight 2 gets twice the share of one of 1."
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
    "--zk-session-timeout",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long after a leader's last word another is elected.",
)
@click.option(
    "--advertise-ip", default="", metavar="IP", help="Where others reach this master.  [default: --ip]"
)
@click.option("--address-file", type=click.Path(path_type=Path), help="Write HOST:PORT here when it listens.")
@click.option("--die-with-parent", is_flag=True, help="End (as by SIGTERM) when the parent process does.")
def command(
    *,
    ip: str,
    port: int,
    insecure: bool,
    allocator: str,
    weights: str,
    offer_timeout: float,
    ping_interval: float,
    missed_pings: int,
    zk: str,
    zk_session_timeout: float,
    advertise_ip: str,
    address_file: Path | None,
    die_with_parent: bool,
) -> int:
    """Make the offers of a cluster.

    It keeps nothing on disk: one that is started again learns everything from the slaves and the schedulers.
    With --zk several run, one leads, and the others take over when it dies:

    \b
    offerd master --zk zoo1:2181,zoo2:2181,zoo3:2181/offerd      on two or three hosts
    offerd slave --master zk://zoo1:2181,zoo2:2181,zoo3:2181/offerd
    A leader that cannot be sure to lead any more ends with status 1: have systemd start it again.
    """
    if die_with_parent:
        from offerd_cli import parent

        parent.die_with_parent()

    from offerd.leader import parse_zookeeper
    from offerd_master.daemon import MasterOptions, run_master
    from offerd_master.settings import Settings

    settings = Settings(
        offer_timeout_s=offer_timeout,
        ping_interval_s=ping_interval,
        max_missed_pings=missed_pings,
        allocator=allocator,
        role_weights=_weights(weights),
    )
    if zk_session_timeout < 1:
        raise BadInput("--zk-session-timeout must be a second or more")
    return run_master(
        MasterOptions(
            ip=ip,
            port=port,
            insecure=insecure,
            address_file=address_file,
            zookeeper=parse_zookeeper(zk) if zk else None,
            session_timeout_s=zk_session_timeout,
            advertise_ip=advertise_ip,
            settings=settings,
        )
    )


def _weights(text: str) -> dict[str, float]:
    """`ROLE=W,...`. Raises `BadInput`; that a weight is above zero, `Settings` checks."""
    weights = {}
    for role, weight in parse_pairs([text] if text else [], "--weights", commas=True).items():
        try:
            weights[role] = float(weight)
        except ValueError:
            raise BadInput(f"--weights {role}={weight}: {weight!r} is no number") from None
    return weights
