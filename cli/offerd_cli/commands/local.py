"""`offerd local`: a whole cluster on this host, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

from offerd.credentials.keys import KEY_VARIABLE, MASTER_KEY_VARIABLE
from offerd.masters.clusters import MASTER_VARIABLE
from offerd_cli.local_cluster import LocalCluster
from offerd_cli.master_options import LISTENING_PORT, MASTER
from offerd_cli.options import WholeNumber, json_option
from offerd_cli.screen import say
from offerd_cli.slave_options import LOCAL_SLAVES
from offerd_cli.units import format_quantity

_RECORD = signal.SIGUSR2
"""Passed on to all daemons, which write their recordings."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(short_help="Start a whole cluster on this host, until Ctrl-C.")
@click.option(
    "--slaves",
    type=WholeNumber(0, 500),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of slaves.",
)
@click.option(
    "--masters",
    type=WholeNumber(1, 9),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of masters; more than one needs --zk.",
)
@click.option(
    "--zk",
    default="",
    metavar="auto|WHERE",
    help="ZooKeeper in which the masters elect their leader; auto starts one.  [default: none]",
)
@click.option(
    "--cpus",
    default="",
    metavar="CPUS",
    help="CPUs that each slave offers, for example 2.  [default: a part of the host's, at least 2]",
)
@click.option(
    "--mem",
    default="",
    metavar="SIZE",
    help="Memory that each slave offers, for example 2G.  [default: a part of the host's]",
)
@LISTENING_PORT.click_option(MASTER.defaults)
@LOCAL_SLAVES.options
@click.option(
    "--insecure", is_flag=True, help="Run without keys: every account of this host can use the cluster."
)
@click.option(
    "--web/--no-web",
    "has_web",
    default=None,
    help="Serve the cluster to browsers.  [default: where it is installed]",
)
@click.option(
    "--web-port",
    type=WholeNumber(0, 65535),
    default=0,
    metavar="N",
    help="Port of the page.  [default: a free one]",
)
@json_option
def command(
    *,
    slaves: int,
    masters: int,
    zk: str,
    cpus: str,
    mem: str,
    port: int,
    insecure: bool,
    has_web: bool | None,
    web_port: int,
    as_json: bool,
    **words: Any,
) -> int:
    """Start a master and slaves on this host, as real processes, until Ctrl-C.

    \b
    offerd local --slaves 3
    offerd local --masters 2 --zk auto --slaves 3

    The page whose address is printed shows the cluster in a browser; the address has a token that lets this account in.

    One of several masters leads, and another takes over when it ends: try kill -9.

    The cluster is for this account alone: `offerd cluster list` shows it while it runs, and other accounts have no key to it.
    Nothing is left behind: the tasks end, and the directory with all files is removed.

    On SIGUSR2 the master and all slaves write recordings of what they have seen last (see `offerd debug --help`).
    """
    from offerd_cli import web_access

    if has_web:
        web_access.check_installed()
    elif has_web is None:
        has_web = web_access.is_installed()
    cluster = LocalCluster(
        slaves,
        masters=masters,
        zk=zk,
        cpus=cpus,
        mem=mem,
        port=port,
        insecure=insecure,
        slave_options=tuple(LOCAL_SLAVES.command_line(words)),
        web_port=web_port if has_web else None,
    )
    with Ending() as ending, cluster:
        ending.only_noted()
        click.echo(json.dumps(_document(cluster)) if as_json else _banner(cluster))
        return _watch(cluster, ending.fd, quiet=as_json)


class Ending:
    """Ctrl-C and signals to end. Until `only_noted` they interrupt whatever is going on (such as a slow start). From then on
    they only make `fd` readable, and interrupt nothing; above all not the cleaning up. SIGUSR2 never does more than that. The
    bytes that are read from `fd` are the signals' numbers.

    The interpreter's own handler makes it readable, at once. A handler in Python would run only after a wait in the kernel has
    ended, and a signal just before that wait would not end it.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        self._noted = False
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1

    def only_noted(self) -> None:
        self._noted = True

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if not self._noted:
            self._noted = True  # a second Ctrl-C must not interrupt the cleaning up
            raise KeyboardInterrupt

    def __enter__(self) -> Ending:
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._signalled) for number in _ENDING}
        self._before[_RECORD] = signal.signal(_RECORD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.fd)
        os.close(self._write_fd)


def _watch(cluster: LocalCluster, wake_fd: int, *, quiet: bool) -> int:
    """Wait until a signal comes, or no daemon is left."""
    while any(daemon.running for daemon in cluster.daemons() if daemon is not cluster.web):
        ended = cluster.wait_for_an_end(wake_fd)
        if ended is None:
            if {*os.read(wake_fd, 64)} == {_RECORD}:
                cluster.record()
                continue
            if not quiet:
                print("\nstopping: ending all tasks", file=sys.stderr)
            return 0
        say(f"offerd: {ended.name} {ended.how_it_ended()}; the other daemons go on")
    say("offerd: every daemon has ended")
    return 1


def _document(cluster: LocalCluster) -> dict[str, object]:
    """What `--json` prints: `master`, its `name` in the store of credentials, `base`, the slaves' `isolation`, the page's
    address as `web`; the leader's `pid` and `log`; for each of `masters` its `name`, `pid`, `log` and whether it leads, and for
    each of `slaves` its `work_dir`.
    """
    leader = cluster.leader()
    return {
        "master": cluster.address,
        "name": cluster.name,
        "pid": leader.pid,
        "base": str(cluster.base),
        "isolation": cluster.isolation,
        "web": cluster.web_address or None,
        "log": str(leader.log),
        "masters": [
            {"name": master.name, "pid": master.pid, "log": str(master.log), "leads": master is leader}
            for master in cluster.masters
        ],
        "slaves": [
            {"name": slave.name, "pid": slave.pid, "work_dir": str(slave.work_dir), "log": str(slave.log)}
            for slave in cluster.slaves
        ],
    }


def _banner(cluster: LocalCluster) -> str:
    """Where the cluster is, and what to try next."""
    cpus = format_quantity("cpus", cluster.slave_resources.millicpus)
    mem = format_quantity("mem", cluster.slave_resources.mem_bytes)
    number = len(cluster.slaves)
    who = "master on"
    if len(cluster.masters) > 1:
        who = f"{len(cluster.masters)} masters, of which pid {cluster.leader().pid} leads, in"
    lines = [
        f"{who} {cluster.address}, {number} slave{'s' * (number != 1)} of {cpus} cpus and {mem}; logs in {cluster.base}",
    ]
    if cluster.isolation == "noop":
        lines.append(
            "isolation noop: memory is watched, not limited; cpus and processes are not limited; `offerd doctor` says why"
        )
    if cluster.web_address:
        lines += ["", f"  in a browser:  {cluster.web_address}"]
    else:
        from offerd_cli.web_access import INSTALL, is_installed

        lines += [] if is_installed() else [f"no page for browsers: {INSTALL} brings it along"]
    lines += ["", "  in another terminal:"]
    if set_here := [name for name in (KEY_VARIABLE, MASTER_KEY_VARIABLE) if os.environ.get(name)]:
        lines.append(f"  unset {' '.join(set_here)}")
    if os.environ.get(MASTER_VARIABLE) or not cluster.is_found_unasked():
        lines.append(f"  export OFFERD_MASTER={cluster.address}")
    lines += [
        "  offerd run -- sh -c 'echo hello'",
        "  offerd map -- wc -l {} ::: /etc/*.conf",
        "  offerd status",
        "",
        "Ctrl-C ends everything and leaves nothing behind.",
    ]
    return "\n".join(lines)
