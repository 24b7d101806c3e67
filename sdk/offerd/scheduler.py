"""What a framework author writes: a `Scheduler`, whose callbacks a driver calls.

The callbacks of the paper's Table 1 (Mesos, NSDI 2011) in snake case, and what users of Mesos expect beside them. All of
them do nothing unless overridden. A driver calls one at a time, never two at once, so a scheduler needs no locks of its
own; while a callback runs, nothing else reaches the framework, so a callback should be quick and never wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID
from offerd.messages import Offer, TaskStatus

if TYPE_CHECKING:
    from offerd.driver import SchedulerDriver


class Scheduler:
    """Decides which offers to take and what to run on them. Give one to `offerd.SchedulerDriver`.

    A callback that raises ends the driver: the error is logged, `error` is called, and `driver.join()` raises it again.
    """

    # -- the paper's callbacks ----------------------------------------------------------------------------------------

    def resource_offers(self, driver: SchedulerDriver, offers: list[Offer]) -> None:
        """Free resources, each offer those of one slave. Answer every one, with `driver.reply_to_offer` or
        `driver.decline_offer`: what is offered counts as yours, and an offer left lying is rescinded.

        Take only what you have work for now (the paper's incentives: short tasks, no minimum, scale down when idle).
        """

    def offer_rescinded(self, driver: SchedulerDriver, offer_id: OfferID) -> None:
        """An offer that you have not answered holds no more: forget it. Tasks sent for it would be lost."""

    def status_update(self, driver: SchedulerDriver, status: TaskStatus) -> None:
        """A task is in another state. Of each task exactly one status with `status.state.terminal` comes, the last one.

        The status is acknowledged when this returns; if your process dies before, it comes again to its successor.
        A `RUNNING` may be missing when the end came close behind it.
        """

    def slave_lost(self, driver: SchedulerDriver, slave_id: SlaveID) -> None:
        """A slave is gone. Its offers were rescinded before; its tasks are reported `LOST`, each by a status."""

    def revocation_notice(self, driver: SchedulerDriver, task_ids: list[str], grace_s: float) -> None:
        """Others are to have what is guaranteed to them, and you hold more than is guaranteed to you. Within `grace_s` end
        as much as these tasks hold, whichever of your tasks you like, or let them save their work. What is then still
        missing is taken by killing of these: they end `KILLED` with reason `REVOKED`.
        """

    # -- beside them --------------------------------------------------------------------------------------------------

    def registered(self, driver: SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        """The master knows this framework now. Keep `framework_id` if a successor is to take over its tasks."""

    def reregistered(self, driver: SchedulerDriver, master_id: str) -> None:
        """The master, or a new one, is back. Filters and `set_needs_offers` were said again by the driver, and tasks whose
        state is in doubt are reconciled by it; offers from before hold no more.
        """

    def standing_by(self, driver: SchedulerDriver, framework_id: FrameworkID, master_id: str) -> None:
        """Another scheduler of this framework is active. `registered` (or `reregistered`, if this one has been active before)
        comes when this one is; `driver.reconcile_tasks()` then tells what runs.
        """

    def disconnected(self, driver: SchedulerDriver) -> None:
        """The master is silent. Tasks go on; the driver keeps trying. All offers have been rescinded."""

    def executor_lost(
        self,
        driver: SchedulerDriver,
        slave_id: SlaveID,
        executor_id: ExecutorID,
        exit_status: int | None,
        message: str,
    ) -> None:
        """An executor of yours ended. What became of its tasks, their statuses say."""

    def framework_message(
        self, driver: SchedulerDriver, slave_id: SlaveID, executor_id: ExecutorID, data: bytes
    ) -> None:
        """Bytes from one of your executors; best effort, may be lost."""

    def error(self, driver: SchedulerDriver, reason: str, message: str) -> None:
        """The end of this driver: refused by the master (`reason` is one of `offerd.messages.Reason`), taken over by
        another scheduler, no master found (`MASTER_UNREACHABLE`) or a callback that raised (`CALLBACK_RAISED`).
        """
