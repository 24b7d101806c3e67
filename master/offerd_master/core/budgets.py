"""How much of the master's memory the frameworks of one owner may use: their number, and the size of their descriptions.

A framework stays while its fail-over time-out runs, with or without a scheduler. So frameworks are counted by their owner (the
name after `@` in their ids), not by connection. Where peers have no keys, all frameworks have one owner, with a larger budget.
"""

from __future__ import annotations

from collections import Counter

from offerd.ids import owner_of
from offerd.messages import FrameworkInfo
from offerd.wire.codec import encode_message
from offerd_master.settings import MasterSettings

NOBODY_IN_PARTICULAR = 5
"""The factor on every budget where nobody has a key."""
MAX_REMEMBERED_OF_OWNER = 50_000
"""Tasks called lost (`recovery`) that are remembered for all frameworks of one owner: about 15 MB."""


class Budgets:
    """The accounts. Whatever enters must leave later with the same description."""

    def __init__(self) -> None:
        self._frameworks: Counter[str] = Counter()
        self._size_bytes: Counter[str] = Counter()
        self._remembered: Counter[str] = Counter()

    def remembers(self, some_id: str, more: int) -> None:
        """`more` further tasks that were called lost are remembered for this framework; negative: fewer."""
        owner = owner_of(some_id)
        self._remembered[owner] += more
        if not self._remembered[owner]:
            del self._remembered[owner]

    def remembers_too_much(self, some_id: str) -> bool:
        """Whether more such tasks are remembered for its owner than the budget allows."""
        owner = owner_of(some_id)
        times = 1 if owner else NOBODY_IN_PARTICULAR
        return self._remembered[owner] > times * MAX_REMEMBERED_OF_OWNER

    def fault(self, settings: MasterSettings, owner: str, more_bytes: int, *, is_one_more: bool) -> str:
        """Why the budget has no room for one more framework or scheduler, or for a longer description, as one line; empty if it
        has.
        """
        times = 1 if owner else NOBODY_IN_PARTICULAR
        who = f"{owner} has" if owner else "there are"
        if is_one_more and self._frameworks[owner] >= times * settings.max_frameworks_per_owner:
            return f"{who} {self._frameworks[owner]} frameworks already, with those that wait for a scheduler; end some"
        room_bytes = times * settings.max_framework_bytes_per_owner - self._size_bytes[owner]
        if more_bytes > max(0, room_bytes):
            return (
                f"{who} frameworks whose descriptions take {self._size_bytes[owner]} bytes already; end some"
            )
        return ""

    def says_more(self, some_id: str, more_bytes: int) -> None:
        """A scheduler of this framework has set filters that are longer by `more_bytes` than those before."""
        self._size_bytes[owner_of(some_id)] += more_bytes

    def enter(self, some_id: str, info: FrameworkInfo, *, is_new: bool = True) -> None:
        """A framework has come; with `is_new` False, another scheduler of a known one."""
        owner = owner_of(some_id)
        self._frameworks[owner] += is_new
        self._size_bytes[owner] += len(encode_message(info))

    def leave(self, some_id: str, info: FrameworkInfo, *, is_last: bool = True) -> None:
        """A framework has gone; with `is_last` False, only one of its schedulers."""
        owner = owner_of(some_id)
        self._frameworks[owner] -= is_last
        self._size_bytes[owner] -= len(encode_message(info))
        if not self._frameworks[owner] and not self._size_bytes[owner]:
            del self._frameworks[owner], self._size_bytes[owner]
