"""A master that does not answer: why, for people, and when to log it.

Everything that waits for a master logs what it waits for and since when: soon after the wait begins, then rarely, and whenever
the reason changes. ZeroMQ retries silently, so the reason is found out by separate probes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from offerd.addresses import HostPort, parse
from offerd.errors import OfferdError
from offerd.masters.leader import parse_zookeeper, unreachable
from offerd.values.screen_text import printable
from offerd.wire.link import mechanism_at
from offerd.workers import start_thread

LOOK_AFTER_S = 1.0
"""A restarted master is often back before this."""
LOOK_EVERY_S = 10.0
QUIET_S = 10.0
"""Callers that wait no longer than this for a first answer report its absence once, at the end."""
LOOK_LIMIT_S = 2.0
"""For one attempted connection."""
SAY_AGAIN_S = (60.0, 300.0, 900.0)
"""Times between log lines; the last one repeats."""
LOOKING_S = 0.1
ANOTHER_KEY = "has another key than the one that we know the master by"
"""A master that has just started looks like this for a moment, so it is reported only when found twice."""
LOOK_AGAIN_S = 2.0
"""Time until the second look in that case."""


class Peer(NamedTuple):
    """The master that we try to reach."""

    master: str
    """As for `master_address`."""
    leader: str
    """The leader according to ZooKeeper, without ZooKeeper the same as `master`; empty if none is named."""
    has_keys: bool
    is_linked: bool
    """There is a connection, made with the expected keys."""
    hears_zookeeper: bool = False
    said: str = ""
    """Why the connected peer refuses to be our master, in its own words."""


class Absence:
    """Decides when to probe and what to log. It uses no clock and no socket."""

    def __init__(self, now: float) -> None:
        self.why = ""
        """The last reason found; empty if there was no probe yet, or the master is there."""
        self._away_since: float | None = now
        self._look_at = now + LOOK_AFTER_S
        self._is_looked_for = False
        self._said = ""
        self._say_again_at = 0.0
        self._times_said = 0
        self._may_pass = ""

    def turn(self, is_there: bool, now: float) -> bool:
        """Whether to probe now why the master is away; the result is to be given to `found`."""
        if is_there:
            self.back(now)
            self._said = self.why = self._may_pass = ""
            return False
        if self._away_since is None:
            self._away_since, self._look_at = now, now + LOOK_AFTER_S
        if self._is_looked_for or now < self._look_at:
            return False
        self._is_looked_for = True
        return True

    def found(self, why: str, now: float) -> str:
        """The line to log for this reason; empty if it is not news."""
        self._is_looked_for = False
        self._look_at = now + LOOK_EVERY_S
        if self._away_since is None:
            return ""
        if why.endswith(ANOTHER_KEY) and why != self._may_pass:
            self._may_pass, self._look_at = why, now + LOOK_AGAIN_S
            return ""
        self.why = why
        if why == self._said and now < self._say_again_at:
            return ""
        if why != self._said:
            self._times_said = 0
        self._say_again_at = now + SAY_AGAIN_S[min(self._times_said, len(SAY_AGAIN_S) - 1)]
        self._times_said += 1
        self._said = why
        return f"no master for {_duration(now - self._away_since)}: {why}; still trying"

    def next_deadline(self) -> float:
        """When `turn` must be called at the latest."""
        return float("inf") if self._away_since is None or self._is_looked_for else self._look_at

    def back(self, now: float) -> str:
        """The line to log when the master is there again; empty if its absence was not logged."""
        since, times, self._away_since, self._times_said = self._away_since, self._times_said, None, 0
        return f"a master answers, after {_duration(now - since)}" if since is not None and times else ""


class MasterWatch:
    """An `Absence` and a thread for its probes, as resolving a name may take long."""

    def __init__(self, look: Callable[[Peer], str] | None = None) -> None:
        self.absence = Absence(time.monotonic())
        self._look = look or why_away
        self._found: str | None = None
        self._is_looking = False

    @property
    def why(self) -> str:
        """The last reason found; empty if there was no probe yet, or the master is there."""
        return self.absence.why

    def turn(self, is_there: bool, peer: Callable[[], Peer]) -> list[str]:
        """To be called in every turn of a loop; returns lines to log, usually none."""
        now, lines = time.monotonic(), []
        if is_there and (line := self.absence.back(now)):
            lines.append(line)
        if self._is_looking and self._found is not None:
            found, self._found, self._is_looking = self._found, None, False
            if line := self.absence.found(found, now):
                lines.append(line)
        if self.absence.turn(is_there, now):
            self._is_looking = True
            asked = peer()
            thread = threading.Thread(
                target=self._find, args=(asked,), name="offerd-master-watch", daemon=True
            )
            try:
                start_thread(thread)
            except OfferdError:
                self._found = unreachable(asked.master)
        return lines

    def next_deadline(self) -> float:
        """When to call `turn` again at the latest."""
        return time.monotonic() + LOOKING_S if self._is_looking else self.absence.next_deadline()

    def _find(self, peer: Peer) -> None:
        found = unreachable(peer.master)
        try:
            found = self._look(peer)
        finally:
            self._found = found


def why_away(peer: Peer) -> str:
    """What is wrong on the way to a master, as far as it can be seen from here. Blocks, perhaps for seconds."""
    if peer.is_linked:
        return f"{_where(peer.leader)} {peer.said or 'is connected, but does not answer'}"
    if peer.leader:
        return why_no_answer(peer.leader, peer.has_keys)
    hosts = parse_zookeeper(peer.master).hosts
    if peer.hears_zookeeper:
        return f"no master leads at {peer.master}"
    faults = [fault for host in hosts.split(",") if (fault := _unreached(host))]
    if len(faults) == len(hosts.split(",")):
        return f"no ZooKeeper server can be reached: {'; '.join(faults)}"
    return f"the ZooKeeper at {hosts} names no master that leads"


def why_no_answer(address: str, has_keys: bool) -> str:
    """The same for a master at `tcp://HOST:PORT` without a connection."""
    where = _where(address)
    if fault := _unreached(where):
        return fault
    match mechanism_at(address), has_keys:
        case "CURVE", False:
            return f"the master at {where} requires a key, and there is none for it here"
        case "CURVE", True:
            return f"the server at {where} {ANOTHER_KEY}"
        case "NULL", True:
            return f"the server at {where} uses no keys, but we have one for it; is it the right server?"
        case "", _:
            return f"the server at {where} is not an offerd master, or does not answer"
    return f"{where} accepts connections, but does not answer"


def _unreached(where: str) -> str:
    """Why `HOST:PORT` accepts no connection; empty if it does."""
    host, port = parse(where)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "it is not a host name"
        return f"the name {printable(host)} cannot be resolved: {why}"
    fault = ""
    found.sort(key=lambda each: each[0] == socket.AF_INET6)
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as link:
            link.settimeout(LOOK_LIMIT_S)
            try:
                link.connect(address)
            except TimeoutError:
                fault = fault or f"{where} does not answer"
            except ConnectionRefusedError:
                fault = fault or f"nothing listens at {where}"
            except OSError as error:
                fault = fault or f"{where} cannot be reached: {error.strerror}"
            else:
                if family == found[0][0]:
                    return ""
                there = HostPort(str(address[0]), port)
                return (
                    f"{printable(host)} accepts connections only at {there}, and a name with an IPv4 address is always reached "
                    f"over IPv4; write {there} instead"
                )
    return fault


def _where(address: str) -> str:
    return address.removeprefix("tcp://")


def _duration(span_s: float) -> str:
    if span_s < 120:
        return f"{span_s:.0f} s"
    return f"{span_s / 60:.0f} min" if span_s < 7200 else f"{span_s / 3600:.0f} h"
