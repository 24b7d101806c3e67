"""A master that is away: why, for people, and when that is said.

Whoever waits for a master says for what and since when: soon after it has begun, then seldom, and whenever the reason is
another one. What it is, is found out by looking from outside, as ZeroMQ does not say: it tries again and again, in silence.
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
from offerd.wire.link import mechanism_at
from offerd.wire.screen_text import printable
from offerd.workers import start_thread

LOOK_AFTER_S = 1.0
"""A master that is started anew is often back before."""
LOOK_EVERY_S = 10.0
QUIET_S = 10.0
"""Whoever gives a master so long to answer for the first time, and no longer, says at the end why none has."""
LOOK_LIMIT_S = 2.0
"""Of one connection that is tried."""
SAY_AGAIN_S = (60.0, 300.0, 900.0)
"""After the first time; later as often as the last of these says."""
LOOKING_S = 0.1
ANOTHER_KEY = "has another key than the one that we know the master by"
"""So it looks, for a moment, while a master that has just begun is not connected yet: it is said once it is found twice."""
LOOK_AGAIN_S = 2.0
"""After what may pass."""


class Peer(NamedTuple):
    """Whom we try to reach."""

    master: str
    """As for `master_address`."""
    leader: str
    """Where ZooKeeper says that the leader is; else the same. Empty: it names none."""
    has_keys: bool
    is_linked: bool
    """There is a connection, made with the keys that are expected."""
    hears_zookeeper: bool = False
    said: str = ""
    """What who is connected has said of why it is no master for us."""


class Absence:
    """When to look, and what to say. No clock and no socket inside."""

    def __init__(self, now: float) -> None:
        self.why = ""
        """As it was last found; empty while nobody has looked, or the master is there."""
        self._away_since: float | None = now
        self._look_at = now + LOOK_AFTER_S
        self._is_looked_for = False
        self._said = ""
        self._say_again_at = 0.0
        self._times_said = 0
        self._may_pass = ""

    def turn(self, is_there: bool, now: float) -> bool:
        """Whether it is to be looked now why it is away; `found` is then called with what was found."""
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
        """What to say of it; empty for nothing new."""
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
        return f"no master for {_duration(now - self._away_since)}: {why}; trying on"

    def next_deadline(self) -> float:
        """When `turn` has something to do at the latest."""
        return float("inf") if self._away_since is None or self._is_looked_for else self._look_at

    def back(self, now: float) -> str:
        """What to say when it is there again; empty if nothing was said of its absence."""
        since, times, self._away_since, self._times_said = self._away_since, self._times_said, None, 0
        return f"a master answers, after {_duration(now - since)}" if since is not None and times else ""


class MasterWatch:
    """An `Absence` and the thread that looks: a name may take long to be resolved."""

    def __init__(self, look: Callable[[Peer], str] | None = None) -> None:
        self.absence = Absence(time.monotonic())
        self._look = look or why_away
        self._found: str | None = None
        self._is_looking = False

    @property
    def why(self) -> str:
        """As it was last found; empty while nobody has looked, or the master is there."""
        return self.absence.why

    def turn(self, is_there: bool, peer: Callable[[], Peer]) -> list[str]:
        """To be called in every turn of a loop: lines to be said, mostly none."""
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
    """What is wrong with the way to a master, as far as it can be seen from here. Blocks, for seconds perhaps."""
    if peer.is_linked:
        return f"{_where(peer.leader)} {peer.said or 'is connected, and does not answer'}"
    if peer.leader:
        return why_no_answer(peer.leader, peer.has_keys)
    hosts = parse_zookeeper(peer.master).hosts
    if peer.hears_zookeeper:
        return f"no master leads at {peer.master}"
    faults = [fault for host in hosts.split(",") if (fault := _unreached(host))]
    if len(faults) == len(hosts.split(",")):
        return f"no ZooKeeper server is reached: {'; '.join(faults)}"
    return f"the ZooKeeper at {hosts} names no master that leads"


def why_no_answer(address: str, has_keys: bool) -> str:
    """The same of a master at `tcp://HOST:PORT`, with which there is no connection."""
    where = _where(address)
    if fault := _unreached(where):
        return fault
    match mechanism_at(address), has_keys:
        case "CURVE", False:
            return f"the master at {where} wants a key, and there is none for it here"
        case "CURVE", True:
            return f"what listens at {where} {ANOTHER_KEY}"
        case "NULL", True:
            return (
                f"what listens at {where} speaks without keys, and we have one for it; is it the right one?"
            )
        case "", _:
            return f"what listens at {where} is no offerd master, or does not answer"
    return f"{where} is reached, and does not answer"


def _unreached(where: str) -> str:
    """Why `HOST:PORT` takes no connection; empty if it does."""
    host, port = parse(where)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "it is no name of a host"
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
                    f"{printable(host)} takes connections at {there} alone, and a name with an IPv4 address is reached over "
                    f"that; write {there} instead"
                )
    return fault


def _where(address: str) -> str:
    return address.removeprefix("tcp://")


def _duration(span_s: float) -> str:
    if span_s < 120:
        return f"{span_s:.0f} s"
    return f"{span_s / 60:.0f} min" if span_s < 7200 else f"{span_s / 3600:.0f} h"
