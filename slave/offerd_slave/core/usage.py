"""What the slave reports of itself: how much its containers use, and whether its disk is full."""

from __future__ import annotations

from offerd.messages import SlaveUsage
from offerd_slave.core.actions import LookAtDisk, MeasureUsage
from offerd_slave.core.disk import is_full
from offerd_slave.core.events import DiskMeasured, UsageMeasured
from offerd_slave.core.state import State


class Usage:
    """The latest measurement, and when the next one is made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._measured = UsageMeasured(0, 0)

    def begin(self, now: float) -> None:
        """Check the disk at once, and measure usage after the first interval."""
        self._state.timers.set(("usage",), now + self._state.settings.usage_interval_s)
        self._state.do(LookAtDisk())

    def measure(self, now: float) -> None:
        """Have usage measured and the disk checked, now and after each interval."""
        self._state.do(LookAtDisk())
        self._state.do(MeasureUsage())
        self._state.timers.set(("usage",), now + self._state.settings.usage_interval_s)

    def measured(self, event: UsageMeasured) -> None:
        """Report the usage. It is also a sign of life: a master that does not know this slave answers NotRegistered."""
        self._measured = event
        self.report()

    def report(self) -> None:
        """Send the latest measurement, with the present state of the slave."""
        state, usage = self._state, self._measured
        if state.registered:
            state.to_master(
                SlaveUsage(
                    usage.millicpus,
                    usage.mem_bytes,
                    len(state.tasks),
                    state.is_closed,
                    state.is_disk_full,
                    state.reported_mode,
                )
            )

    def disk_measured(self, event: DiskMeasured) -> None:
        """Report a change at once, with the usage that was last measured."""
        state = self._state
        was_full = state.is_disk_full
        state.is_disk_full = is_full(event, state.settings.disk_floor_bytes, was_full=was_full)
        if state.is_disk_full == was_full:
            return
        if state.is_disk_full:
            why = event.fault or f"{event.free_bytes >> 10} KiB are free"
            state.log(
                "ERROR",
                f"the disk of the work directory is full ({why}): no new tasks are taken; running ones go on",
            )
        else:
            state.log("INFO", "the disk of the work directory has room again")
        self.report()
