"""Draining slaves and offering them again: orders to the master, and waiting for the result."""

from __future__ import annotations

import time
from collections.abc import Iterable

from offerd.errors import MasterUnreachable, OfferdError
from offerd.operator import OperatorClient
from offerd.operator_messages import SlaveSummary
from offerd_cli.screen import about, say
from offerd_cli.units import format_duration

LOOK_AGAIN_S = 0.5
SAY_AGAIN_S = 60.0
"""What is waited for is printed when it changes, and again after this time."""
NEW_MASTER_S = 60.0
"""How long a new master may not know of all slaves yet."""


def change_mode(
    client: OperatorClient, names: Iterable[str], mode: str, deadline_s: float | None = None
) -> list[str]:
    """Give the order for each slave (id or hostname); returns those that obey, and prints why others do not."""
    obeying = []
    for name in dict.fromkeys(names):
        try:
            client.change_slave_mode(name, mode, deadline_s)
        except OfferdError as error:
            say(f"offerd: {about(name, error)}")
        else:
            obeying.append(name)
    return obeying


def wait_until_drained(client: OperatorClient, names: Iterable[str], *, is_ending: bool) -> bool:
    """Wait until the slaves are drained, and print what is waited for. False if one does not become drained, because it was
    activated or has left with its tasks. `is_ending`: they have a deadline.
    """
    waiting = dict.fromkeys(names, "")  # the line last printed for each
    said_at = time.monotonic()
    client.tries_on = True
    all_drained = True
    while waiting:
        try:
            is_new = client.cluster().up_s < NEW_MASTER_S
            listed = list(client.slaves())
        except MasterUnreachable:
            # They go on draining, and report it to their next master. The client prints that the master is away.
            time.sleep(LOOK_AGAIN_S)
            continue
        if time.monotonic() >= said_at + SAY_AGAIN_S:
            said_at = time.monotonic()
            waiting = dict.fromkeys(waiting, "")
        news = {}
        for name in list(waiting):
            slave = _named(listed, name)
            if slave is None and is_new:
                news[name] = f"another master leads; waiting for {name} to register with it"
                continue
            if slave is not None and slave.state in ("draining", "lost"):
                news[name] = _what_for(name, slave, is_ending=is_ending)
                continue
            del waiting[name]
            if slave is None:
                say(f"{name} has left the cluster, after its tasks had ended")
            elif slave.state == "drained":
                say(f"{name} is drained; `offerd activate {name}` offers it again")
            else:
                say(f"offerd: {name} is {slave.state} again: it was activated")
                all_drained = False
        _report(waiting, news)
        if waiting:
            time.sleep(LOOK_AGAIN_S)
    return all_drained


def _named(slaves: list[SlaveSummary], name: str) -> SlaveSummary | None:
    """The slave with this name; if several have this hostname, the one that is there."""
    found = [slave for slave in slaves if name in (slave.info.slave_id, slave.info.hostname)]
    return min(found, key=lambda slave: slave.state == "lost", default=None)


def _what_for(name: str, slave: SlaveSummary, *, is_ending: bool) -> str:
    if slave.state == "lost":
        return f"{name} cannot be reached; waiting for it to return and to report that it is drained"
    if not slave.tasks:
        return f"{name} is draining; its executors are ending"
    tasks = "1 task runs" if slave.tasks == 1 else f"{slave.tasks} tasks run"
    more = "" if is_ending else "; --deadline or --kill ends tasks that do not end by themselves"
    return f"{name} is draining; {tasks} there{more}"


def _report(waiting: dict[str, str], news: dict[str, str]) -> None:
    for name, text in news.items():
        if waiting[name] != text:
            waiting[name] = text
            say(text)


def deadline_text(deadline_s: float | None) -> str:
    """What happens to the tasks that still run, and when."""
    if deadline_s is None:
        return "what runs there may end by itself"
    return (
        f"what still runs is ended in {format_duration(deadline_s)}" if deadline_s else "what runs is ended"
    )
