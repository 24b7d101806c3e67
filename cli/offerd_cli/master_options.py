"""The options of `offerd master`: a table of rows that each set a field, and the settings made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from offerd.credentials.keys import read_secret
from offerd.errors import BadInput
from offerd.masters.leader import parse_zookeeper
from offerd.masters.zookeeper_access import read_access
from offerd_cli.master_file import MasterFile, policy
from offerd_cli.option_tables import (
    DIRECTORY,
    FILE,
    FLAG,
    PORT,
    TEXT,
    TIME,
    Kind,
    OptionTable,
    Setting,
    number,
)
from offerd_cli.units import parse_resources
from offerd_master.allocation.policy import Policy
from offerd_master.options import MasterOptions

F = TypeVar("F", bound=Callable[..., Any])

MIN_SESSION_TIMEOUT_S = 1.0


def _session_timeout(option: str, seconds: float) -> float:
    if seconds < MIN_SESSION_TIMEOUT_S:
        raise BadInput(f"{option} must be 1s or more")
    return seconds


_SECRET = replace(FILE, read=lambda _, path: read_secret(path))
_ACCESS = replace(FILE, read=lambda _, path: read_access(path))
_ZOOKEEPER = Kind("HOST:PORT,.../PATH", read=lambda _, text: parse_zookeeper(text))
_RESOURCES = Kind("RESOURCES", read=parse_resources)

IP = Setting("ip", "--ip", TEXT, "Address to listen on.", "ADDRESS")
LISTENING_PORT = Setting("port", "--port", PORT, "Port to listen on; 0 takes a free one.")

_PLACES = (
    IP,
    LISTENING_PORT,
    Setting(
        "secret",
        "--key",
        _SECRET,
        "File of the master's secret key; with it, only peers with keys are admitted (`offerd keys`).",
        unset="none",
    ),
    Setting(
        "insecure",
        "--insecure",
        FLAG,
        "Run without keys: anybody who reaches the master can command every slave.",
    ),
    Setting(
        "state_dir",
        "--state-dir",
        DIRECTORY,
        "Directory for the keys that have joined, and for recordings.",
        unset="/var/lib/offerd/master as root, else ~/.local/state/offerd/master",
    ),
    Setting(
        "address_file",
        "--address-file",
        FILE,
        "File to write HOST:PORT into once the master listens.",
        unset="none",
    ),
)
_OFFERS = (
    Setting(
        "settings.allocator",
        "--allocator",
        TEXT,
        "Allocation module: drf, priority, lottery, or another that is installed.",
        "NAME",
    ),
    Setting(
        "settings.minimum_offer",
        "--minimum-offer",
        _RESOURCES,
        "Resources that must be free on a slave before it is offered, unless the slave has its own setting.",
    ),
    Setting(
        "settings.offer_timeout_s",
        "--offer-timeout",
        TIME,
        "Time after which an unanswered offer is taken back.",
    ),
    Setting(
        "settings.revoke_after_s",
        "--revoke-after",
        TIME,
        "Time that a framework waits below its guarantee before tasks of others are killed for it.",
    ),
    Setting(
        "settings.revoke_grace_s",
        "--revoke-grace",
        TIME,
        "Time between the notice that a task will be killed for another framework and the kill.",
    ),
    Setting(
        "settings.operator_grace_s",
        "--operator-grace",
        TIME,
        "Time from TERM to KILL for tasks that end by an operator's order, or for another framework.",
    ),
    Setting(
        "settings.max_failover_timeout_s",
        "--max-failover-timeout",
        TIME,
        "Longest time that a framework's tasks may wait for a scheduler, or for their slave.",
    ),
    Setting(
        "settings.ping_interval_s",
        "--ping-interval",
        TIME,
        "Time between pings of each slave and scheduler.",
    ),
    Setting(
        "settings.max_missed_pings",
        "--missed-pings",
        number(1),
        "Number of unanswered pings in a row after which a peer is lost.",
    ),
)
_ELECTION = (
    Setting(
        "zookeeper",
        "--zk",
        _ZOOKEEPER,
        "ZooKeeper in which masters elect their leader; this master leads only when it is elected.",
        unset="none",
    ),
    Setting(
        "zookeeper_access",
        "--zk-credentials",
        _ACCESS,
        "File with NAME:PASSWORD, with which masters log in to ZooKeeper.",
        unset="derived from --key",
    ),
    Setting(
        "session_timeout_s",
        "--zk-session-timeout",
        replace(TIME, read=_session_timeout),
        "Time without a sign of life from the leader after which another master is elected, at least 1s.",
    ),
    Setting(
        "advertise_ip",
        "--advertise-ip",
        TEXT,
        "Address at which others reach this master.",
        "ADDRESS",
        unset="that of --ip",
    ),
    Setting(
        "advertise_port",
        "--advertise-port",
        PORT,
        "Port at which others reach this master.",
        unset="that of --port",
    ),
)

MASTER = OptionTable(MasterOptions(), (*_PLACES, *_OFFERS, *_ELECTION))

_POLICY: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--weights",
        default="",
        metavar="ROLE=W,...",
        help="Weights of roles: a role of weight 2 gets twice the share of a role of weight 1.  [default: 1 each]",
    ),
    click.option(
        "--priorities",
        default="",
        metavar="ROLE=N,...",
        help="Priorities of roles, as whole numbers: the role with the highest is offered resources first.  [default: 0 each]",
    ),
    click.option(
        "--guarantee",
        "guarantees",
        multiple=True,
        metavar="ROLE=RESOURCES",
        help="Resources guaranteed to a role, for example prod=cpus=4,mem=8G; may be repeated.",
    ),
    click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="ROLE=RESOURCES",
        help="Largest amount of resources that a role may hold, for example test=cpus=8; may be repeated.",
    ),
)


def policy_options(command: F) -> F:
    """Add the options for roles; the command gets `weights`, `priorities`, `guarantees` and `limits`."""
    for option in reversed(_POLICY):
        command = option(command)
    return command


def master_options(file: MasterFile, authorized: Path | None, words: Mapping[str, Any]) -> MasterOptions:
    """The master's options from its file and the command line. Raises `BadInput`."""
    from offerd_master.gate import read_principals

    if (words["key"] is None) != (authorized is None):
        raise BadInput(
            "--key and --authorized go together: give the master's own secret key, and the file of the admitted keys"
        )
    if words["zk_credentials"] is not None and not words["zk"]:
        raise BadInput("--zk-credentials needs --zk: name the ZooKeeper")
    options = MASTER.read(words)
    allocator = options.settings.allocator

    def read_policy(table: Mapping[str, Any]) -> Policy:
        return policy(table, words["weights"], words["priorities"], words["guarantees"], words["limits"])

    def read_policy_again() -> Policy:
        table = file.read_again().table
        if table.get("module", allocator) != allocator:
            raise BadInput(
                f"[allocation]: the master runs with the module {allocator}; restart it to use another one"
            )
        return read_policy(table)

    return replace(
        options,
        settings=replace(options.settings, policy=read_policy(file.table)),
        read_policy=read_policy_again if file.path is not None else None,
        read_principals=lambda: read_principals(authorized) if authorized is not None else {},
    )
