"""What the routes of the API use: the view of the cluster, the desk, and who asks."""

from __future__ import annotations

import time
from collections import Counter

import msgspec

from offerd.cluster_events import EventReader
from offerd.protocol.change_messages import Changes
from offerd_web.core import shapes
from offerd_web.core.describe import Describer
from offerd_web.core.view import ClusterView, Delta
from offerd_web.services.callers import Caller
from offerd_web.services.desk import Desk
from offerd_web.services.past import Past

_encode = msgspec.json.Encoder().encode


class Context:
    """One for the whole gateway. Only the event loop uses it."""

    def __init__(self, view: ClusterView, desk: Desk, past: Past) -> None:
        self.view = view
        self.desk = desk
        self.past = past
        self.leader = ""
        """`HOST:PORT` of the master that answered last."""
        self.requests: Counter[tuple[str, int]] = Counter()
        """How many requests were answered, by route and status."""
        self._why_absent = "no master has answered yet"
        self._states: dict[str, tuple[int, bytes]] = {}

    # -- what the follower says -----------------------------------------------------------------------------------------

    def take(self, changes: Changes, leader: str, reader: EventReader | None) -> Delta:
        """An answer of the master has come. `reader`: what events are to be read with, if they are wanted."""
        self.leader = leader
        self._why_absent = ""
        delta = self.view.apply(changes, time.time(), reader)
        self.past.take(self.view, changes)
        return delta

    def absent(self, why: str) -> None:
        """The master does not answer."""
        self._why_absent = why

    # -- for requests ---------------------------------------------------------------------------------------------------

    def following(self) -> shapes.Following:
        why = self._why_absent
        is_complete = self.view.replica.is_current and not why
        if not why and not is_complete:
            why = "the gateway is still being sent what there is"
        return shapes.Following(is_following=is_complete, why=why, heard_at=self.view.heard_at or None)

    def describer(self, caller: Caller) -> Describer:
        """Describes what this caller may see."""
        return Describer(self.view, caller.sees, caller.only_of)

    def state(self, caller: Caller) -> bytes:
        """Everything that is now, as JSON. It is made once for each change and kind of caller, however many ask."""
        known = self._states.get(caller.only_of)
        if known is not None and known[0] == self.view.version and self.following().is_following:
            return known[1]
        text = _encode(self.describer(caller).state(time.time(), self.following(), self.leader))
        if len(self._states) >= 8:
            self._states.clear()
        self._states[caller.only_of] = (self.view.version, text)
        return text
