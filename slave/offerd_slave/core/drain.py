"""The slave's mode, which operators set (active, deactivated, draining, drained), and how a slave leaves the cluster.

draining: no new tasks are taken, and running ones may end. At the deadline, if there is one, they are ended: TERM, grace, KILL.
drained:  nothing runs any more. Only an operator activates the slave again; a restart, a reboot or another master does not.

A slave that leaves (an ephemeral one that is stopped, or one whose key was revoked) ends its tasks at once, and then itself.
"""

from __future__ import annotations

from collections.abc import Callable

from offerd.ids import SlaveID
from offerd.messages import Reason, SetSlaveMode, TaskState, UnregisterSlave
from offerd_slave.core.actions import DestroyContainer, Exit, SaveSlave
from offerd_slave.core.containers import Containers
from offerd_slave.core.state import Container, End, Phase, State
from offerd_slave.core.statuses import Statuses

_DRAINED = End(TaskState.KILLED, Reason.SLAVE_DRAINING, "the slave is being drained")


class Drain:
    """The slave's mode, and its leaving. `report` sends the mode to the master at once."""

    def __init__(
        self, state: State, containers: Containers, statuses: Statuses, report: Callable[[], None]
    ) -> None:
        self._state = state
        self._containers = containers
        self._statuses = statuses
        self._report = report
        self._is_ending = (
            False  # executors are being ended, as the slave leaves or its drain's deadline has passed
        )
        self._grace_s: float | None = (
            None  # for executors of a leaving slave; None: each executor's own grace
        )
        self._emptied_at: float | None = None
        self.expelled = ""
        """Why the masters refuse this slave for good: its key was revoked. Its tasks are ended, and then the slave."""

    def resume(self) -> None:
        """The slave was restarted: its drain's deadline still holds. An executor that it ends is asked when it has
        registered again."""
        state = self._state
        if state.mode == "draining" and state.drain_end_at is not None:
            state.timers.set(("drain",), state.drain_end_at)

    # -- what operators want ------------------------------------------------------------------------------------------

    def obey(self, wish: SetSlaveMode, now: float) -> None:
        """Set the mode that an operator wants. It is answered by the slave's usage, which contains the mode."""
        state = self._state
        if state.leaving:
            return
        if wish.mode == "draining":
            self._drain(wish, now)
        elif wish.mode in ("active", "deactivated") and wish.mode != state.mode:
            self._forget_drain()
            state.mode = wish.mode
            state.save()
            state.log("INFO", f"{wish.mode}, by an operator's wish")
        self._report()

    def _drain(self, wish: SetSlaveMode, now: float) -> None:
        """Begin to drain, or change the deadline. A wish without a deadline keeps the former one."""
        state = self._state
        if state.mode == "drained":
            return
        if state.mode != "draining":
            state.mode = "draining"
            state.log("INFO", f"draining: {len(state.tasks)} tasks run on")
        if wish.deadline_s is not None:
            state.drain_end_at, state.drain_grace_s = now + max(0.0, wish.deadline_s), wish.grace_s
            state.log("INFO", f"draining: what still runs is ended in {max(0.0, wish.deadline_s):g} s")
            state.timers.set(("drain",), state.drain_end_at)
        state.save()

    def _forget_drain(self) -> None:
        state = self._state
        state.drain_end_at = state.drain_grace_s = None
        self._is_ending, self._emptied_at = False, None
        state.timers.cancel(("drain",))
        state.timers.cancel(("emptied",))

    def leave(self, now: float, *, at_once: bool = False, grace_s: float | None = None) -> None:
        """Take no new tasks, end the running ones, gracefully or `at_once`, then exit. This mode is not written down."""
        state = self._state
        if not state.leaving:
            state.leaving = True
            state.log("INFO", f"leaving: {len(state.tasks)} tasks to end")
            self._emptied_at = None
            self._report()
        self._is_ending, self._grace_s = True, grace_s
        for container in list(state.containers.values()):
            if at_once:
                container.phase = Phase.ENDING
                container.end = _DRAINED
                state.do(DestroyContainer(container.container_id))
            else:
                self._containers.shut_down(container, _DRAINED, now, grace_s)

    # -- carrying it out ----------------------------------------------------------------------------------------------

    def deadline(self, now: float) -> None:
        """The drain's deadline: end what still runs."""
        state = self._state
        if state.mode != "draining":
            return
        self._is_ending = True
        state.timers.cancel(("drain",))
        for container in list(state.containers.values()):
            # An adopted executor that has not registered again is asked when it does, so that it can end gracefully, too.
            if container.phase is not Phase.LAUNCHING or not container.is_adopted:
                self._containers.shut_down(container, _DRAINED, now, state.drain_grace_s)

    def registered(self, container: Container, now: float) -> None:
        """An executor has registered, or registered again: end it if executors are being ended."""
        if self._is_ending and container.phase is not Phase.ENDING:
            grace_s = self._grace_s if self._state.leaving else self._state.drain_grace_s
            self._containers.shut_down(container, _DRAINED, now, grace_s)

    def settle(self, now: float) -> None:
        """Once per turn: end executors without tasks. When nothing is left, the slave is drained, or leaves.

        By then every end was acknowledged, or the wait for acknowledgements has timed out; those are repeated later.
        """
        state = self._state
        if not (state.leaving or state.mode == "draining"):
            return
        for container in list(state.containers.values()):
            if container.phase is Phase.REGISTERED and not container.tasks and not container.queue:
                self._containers.shut_down(container, _DRAINED, now)
        if state.containers or self._statuses.waiting_for_disk():
            return
        if self.expelled:
            self.emptied(now)  # no master will acknowledge anything
            return
        if self._emptied_at is None:
            self._emptied_at = now
            state.timers.set(("emptied",), now + state.settings.drain_ack_s)
        if not self._statuses.streams:
            self.emptied(now)

    def emptied(self, now: float) -> None:
        """Nothing runs any more: the slave is drained, or leaves."""
        state = self._state
        if not state.leaving:
            self._forget_drain()
            state.mode = "drained"
            state.save()
            state.log("INFO", "drained: nothing runs here, until an operator activates this slave")
            self._report()
            return
        if self.expelled:
            # It may join again under another name, to which this id was not given.
            state.slave_id, state.mode = SlaveID(""), "active"
            state.do(SaveSlave(state.slave_id, state.epoch, state.mode))
        if state.registered:
            state.to_master(UnregisterSlave())
        state.do(Exit(self.expelled))
