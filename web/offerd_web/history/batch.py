"""What the history is given to keep, from one answer of the master or several. Times are Unix times in seconds.

Tasks are as the master has sent them, on its clock: `Batch.clock_offset_s` is the wall clock minus the master's clock.
"""

from __future__ import annotations

import msgspec

from offerd.ids import FrameworkID, SlaveID
from offerd.protocol.change_messages import EndedTask


class Value(msgspec.Struct, frozen=True, gc=False):
    """A plain value."""


class FrameworkNames(Value, frozen=True):
    """What a framework is called."""

    name: str = ""
    role: str = ""


NO_NAMES = FrameworkNames()
"""Of a framework that nothing is known of."""


class PastFramework(Value, frozen=True):
    """A framework as it is now, to be kept in place of what is known of it."""

    framework_id: str
    name: str
    role: str
    user: str
    """The account that it asked for."""
    hostname: str
    """Its scheduler's host."""
    since: float
    ended_at: float | None
    state: str
    """active | disconnected | ended | forgotten (the master did not say how it ended)."""
    counts: dict[str, int]
    """State to the number of its tasks that ended in it."""


class SlaveChange(Value, frozen=True):
    """Something happened to a slave."""

    at: float
    slave_id: str
    hostname: str
    event: str
    """registered | lost | silent | heard | active | deactivated | draining | drained | disk-full | disk-free."""


class ShareSample(Value, frozen=True):
    """What a framework held at a moment."""

    at: float
    framework_id: str
    share: float
    """0 to 1, as the allocation module counts it."""
    held_millicpus: int
    held_mem_bytes: int
    running: int
    """Tasks."""


class UtilizationSample(Value, frozen=True):
    """How much of a resource of the whole cluster was in use at a moment: in thousandths or bytes; a port is a thousand."""

    at: float
    resource: str
    total: int
    held: int
    offered: int
    used: int | None
    """As slaves measure it. None: they do not measure this one."""


class Gap(Value, frozen=True):
    """A time of which the history may not have all ends."""

    since: float
    until: float
    missed: int | None
    """How many ends. None: not known, perhaps none."""


class Batch(msgspec.Struct, frozen=True):
    """What is written in one transaction. Writing it again changes nothing."""

    at: float
    """When the answer came."""
    master_id: str = ""
    clock_offset_s: float = 0.0
    origin: str = ""
    """Whose numbers `ended_after` is of (`Changes.origin`). Empty: this batch says nothing of how far we have heard."""
    ended_after: int = 0
    """Ends up to this number are in this batch or in one before it."""
    ended_missed: int = 0
    """Ends that the master does not remember any more."""
    ended: tuple[EndedTask, ...] = ()
    names: dict[FrameworkID, FrameworkNames] = {}
    """Of the frameworks of `ended`."""
    hostnames: dict[SlaveID, str] = {}
    """Of the slaves of `ended`."""
    frameworks: tuple[PastFramework, ...] = ()
    slave_changes: tuple[SlaveChange, ...] = ()
    shares: tuple[ShareSample, ...] = ()
    utilization: tuple[UtilizationSample, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def is_empty(self) -> bool:
        """There is nothing to write. That no end has come is not worth a write."""
        return not (
            self.ended
            or self.frameworks
            or self.slave_changes
            or self.shares
            or self.utilization
            or self.gaps
            or self.ended_missed
        )
