"""What operators want of this slave: active, deactivated, draining, drained; and how it goes when it is to go.

draining: nothing new is taken, and what runs may end; from the deadline on, if there is one, it is ended: TERM, grace, KILL.
drained:  nothing runs any more. Only an operator lets it in again: neither a restart nor a reboot does, nor another master.

A slave that leaves (an ephemeral one that is stopped, one whose key was revoked) has its tasks ended at once, and itself then.
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
    """The slave's mode, and the way out. `report` sends it to the master at once."""

    def __init__(
        self, state: State, containers: Containers, statuses: Statuses, report: Callable[[], None]
    ) -> None:
        self._state = state
        self._containers = containers
        self._statuses = statuses
        self._report = report
        self._is_ending = False  # of a leaving or draining slave: what runs is being ended
        self._grace_s: float | None = None  # of a leaving slave's executors; None: what each says itself
        self._emptied_at: float | None = None
        self.expelled = ""
        """Why no master hears us any more: our key was revoked. What we have is ended, and so are we."""

    def resume(self) -> None:
        """We were restarted: a deadline goes on. What it ends comes back first, and is asked politely then."""
        state = self._state
        if state.mode == "draining" and state.drain_end_at is not None:
            state.timers.set(("drain",), state.drain_end_at)

    # -- wishes -------------------------------------------------------------------------------------------------------

    def obey(self, wish: SetSlaveMode, now: float) -> None:
        """An operator's. The answer is our usage, which says our mode."""
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
        """Without a deadline of its own it leaves what was said before."""
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
        """No new tasks; those that we have are ended, politely or at once; then we go. Not written down."""
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

    # -- what follows from it -----------------------------------------------------------------------------------------

    def deadline(self, now: float) -> None:
        """What still runs is ended."""
        state = self._state
        if state.mode != "draining":
            return
        self._is_ending = True
        state.timers.cancel(("drain",))
        for container in list(state.containers.values()):
            # One that an earlier run of ours has started is asked when it comes back: it is to end politely, too.
            if container.phase is not Phase.LAUNCHING or not container.is_adopted:
                self._containers.shut_down(container, _DRAINED, now, state.drain_grace_s)

    def registered(self, container: Container, now: float) -> None:
        """An executor has come, or has come back."""
        if self._is_ending and container.phase is not Phase.ENDING:
            grace_s = self._grace_s if self._state.leaving else self._state.drain_grace_s
            self._containers.shut_down(container, _DRAINED, now, grace_s)

    def settle(self, now: float) -> None:
        """Once per turn: executors without tasks are ended, and when nothing is left, we are drained, or go.

        Every end has been heard then, or the master has been away for so long that it will hear of them later.
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
            self.emptied(now)  # nobody acknowledges anything
            return
        if self._emptied_at is None:
            self._emptied_at = now
            state.timers.set(("emptied",), now + state.settings.drain_ack_s)
        if not self._statuses.streams:
            self.emptied(now)

    def emptied(self, now: float) -> None:
        """Nothing is left of what ran."""
        state = self._state
        if not state.leaving:
            self._forget_drain()
            state.mode = "drained"
            state.save()
            state.log("INFO", "drained: nothing runs here, until an operator activates this slave")
            self._report()
            return
        if self.expelled:
            # Who joins again may do so under another name, to which our id was not given.
            state.slave_id, state.mode = SlaveID(""), "active"
            state.do(SaveSlave(state.slave_id, state.epoch, state.mode))
        if state.registered:
            state.to_master(UnregisterSlave())
        state.do(Exit(self.expelled))
