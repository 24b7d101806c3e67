"""A container that runs, and its limits: those that are wanted, those that are written, those that the engine knows.

More is written at once; less when it has been less for a while, so that in a stream of tasks nothing is written. The engine is
told of what has stayed (docs/decisions/0020).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from offerd_isolation.cgroups.limits import Limits, with_mem_bytes
from offerd_isolation.cgroups.memory_held import as_far_as_safe
from offerd_isolation.docker.group import Group
from offerd_isolation.docker.kills import Kills
from offerd_linux import process_ids
from offerd_linux.process_ids import ProcessID

SETTLED_S = 2.0
"""Limits that stay so long are lowered, and told to the engine, for people who ask it."""


@dataclass(slots=True)
class Running:
    """Of one container. Its methods may be called in the slave's loop and in the module's threads."""

    pause: ProcessID
    group: Group
    kills: Kills
    wanted: Limits | None = None  # not known yet, after a restart
    applied: Limits | None = None
    wanted_since: float = 0.0
    told: Limits | None = None  # what the engine knows, if we know that
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held where the limits above are changed and written."""

    def is_gone(self) -> bool:
        """Whether its first process has ended, and all others with it."""
        return process_ids.find(self.pause) is None

    def begin(self, limits: Limits) -> None:
        """The engine has made it with these."""
        self.applied = self.wanted = self.told = limits
        self.group.apply(limits)  # swap, which some engines leave as it is

    def want(self, limits: Limits, *, keep_memory: bool = False) -> None:
        """These from now on; what is more than before has been written when this returns. `keep_memory`: as it is written.
        Raises `IsolationError`."""
        with self.lock:
            if keep_memory and self.applied is not None:
                limits = with_mem_bytes(limits, self.applied.mem_bytes)
            if limits == self.wanted == self.applied:
                return
            self.wanted = limits
            self.wanted_since = time.monotonic()
            # After a restart it has what the kernel says.
            applied = self.applied or with_mem_bytes(limits, self.group.mem_limit())
            self._apply(_larger(applied, limits))

    def correct(self) -> str:
        """Lower what was kept back; write again what is not as it was written, which is returned in words. Raises
        `IsolationError`."""
        with self.lock:
            if self.wanted is None or self.is_gone():
                return ""
            if self.applied != self.wanted and self._is_settled():
                self._apply(as_far_as_safe(self.group.memory, self.wanted, self.applied))
            limit, applied = self.group.mem_limit(), self.applied
            if applied is None or limit == applied.mem_bytes or self.is_gone():
                return ""
            self.group.apply(applied)
            return f"memory was {'not limited' if limit is None else f'{limit} bytes'}"

    def to_tell(self) -> Limits | None:
        """What the engine is to be told now; None if nothing."""
        limits, told = self.wanted, self.told
        if limits is None or self.applied != limits or told == limits:
            return None
        if not self._is_settled() or self.is_gone():
            return None
        if limits.mem_bytes is None and (told is None or told.mem_bytes is not None):
            return None  # "none" cannot be said; saying anything, it would write the limit that it remembers
        return limits

    def write_again(self) -> None:
        """The engine was told something: whatever it has made of it, and also if more was wanted meanwhile."""
        with self.lock:
            if self.applied is not None:
                self.group.apply(self.applied)

    def _is_settled(self) -> bool:
        return time.monotonic() - self.wanted_since > SETTLED_S

    def _apply(self, limits: Limits) -> None:
        if limits != self.applied:
            self.group.apply(limits, self.applied)
            self.applied = limits


def _larger(one: Limits, other: Limits) -> Limits:
    """Of each limit the larger; none is the largest."""
    quotas, memories = (one.cpu_quota_us, other.cpu_quota_us), (one.mem_bytes, other.mem_bytes)
    limits = replace(
        max(one, other, key=lambda each: each.cpu_shares),
        cpu_quota_us=None if None in quotas else max(each for each in quotas if each is not None),
    )
    mem_bytes = None if None in memories else max(each for each in memories if each is not None)
    return with_mem_bytes(limits, mem_bytes)
