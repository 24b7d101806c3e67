"""A running container and its limits: those that are wanted, those that are written, those that the engine knows.

Higher limits are written at once. Lower ones are written when they have not changed for a while, so that a stream of tasks
causes no writes; then the engine gets them too (docs/decisions/0020).
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
"""Lower limits are written, and sent to the engine for people who ask it, after so long without a change."""


@dataclass(slots=True)
class Running:
    """One running container. Its methods may be called in the slave's loop and in the module's threads."""

    pause: ProcessID
    group: Group
    kills: Kills
    wanted: Limits | None = None  # not known yet, after a restart
    applied: Limits | None = None
    wanted_since: float = 0.0
    known_to_engine: Limits | None = None  # None: not known to the slave
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the limits above are changed and written."""

    def is_gone(self) -> bool:
        """Whether its first process has ended, which ends all others."""
        return process_ids.find(self.pause) is None

    def begin(self, limits: Limits) -> None:
        """The engine has made the container with these limits."""
        self.applied = self.wanted = self.known_to_engine = limits
        self.group.apply(limits)  # again, as some engines do not limit swap

    def want(self, limits: Limits, *, keep_memory: bool = False) -> None:
        """Want these limits from now on; raised ones are written on return. `keep_memory`: leave the memory limit as it is
        written. Raises `IsolationError`."""
        with self.lock:
            if keep_memory and self.applied is not None:
                limits = with_mem_bytes(limits, self.applied.mem_bytes)
            if limits == self.wanted == self.applied:
                return
            self.wanted = limits
            self.wanted_since = time.monotonic()
            # After a restart of the slave the limits in force are only in the kernel.
            applied = self.applied or with_mem_bytes(limits, self.group.mem_limit())
            self._apply(_larger(applied, limits))

    def correct(self) -> str:
        """Lower the limits that had to wait, and write the memory limit again if somebody else has changed it; returns that
        change in words. Raises `IsolationError`."""
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

    def due_for_engine(self) -> Limits | None:
        """The limits to send to the engine now; None if there are none."""
        limits, known = self.wanted, self.known_to_engine
        if limits is None or self.applied != limits or known == limits:
            return None
        if not self._is_settled() or self.is_gone():
            return None
        if limits.mem_bytes is None and (known is None or known.mem_bytes is not None):
            return None  # the API cannot express "no limit": on any update the engine would write its old limit again
        return limits

    def write_again(self) -> None:
        """Write the limits again after an update of the engine, which may have written others or older ones."""
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
    """The larger one of each limit; no limit is the largest."""
    quotas, memories = (one.cpu_quota_us, other.cpu_quota_us), (one.mem_bytes, other.mem_bytes)
    limits = replace(
        max(one, other, key=lambda each: each.cpu_shares),
        cpu_quota_us=None if None in quotas else max(each for each in quotas if each is not None),
    )
    mem_bytes = None if None in memories else max(each for each in memories if each is not None)
    return with_mem_bytes(limits, mem_bytes)
