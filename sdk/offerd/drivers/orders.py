"""The orders of a scheduler: the actions of the paper's Table 1 and some more, the same for both drivers.

An order is checked here, in the caller's thread, so that a mistake raises where it was made; the driver's loop carries it out
soon after.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from offerd.core.filters import fault as filters_fault
from offerd.core.scheduler_core import Action, SchedulerCore
from offerd.drivers.account import account_name
from offerd.errors import BadInput, MessageTooLarge
from offerd.fields.field_types import wrong
from offerd.ids import FrameworkID, TaskID
from offerd.messages import Filters, FrameworkInfo, KillTask, TaskInfo
from offerd.values.bounds import MAX_ID, MAX_SECONDS
from offerd.values.screen_text import printable
from offerd.wire.codec import MAX_MESSAGE_BYTES, encode_message
from offerd.wire.posix_text import packed_framework, packed_task, readable
from offerd.wire.sendable import check

Order = Callable[..., list[Action]]
"""A method of the core. The driver's loop calls it with the arguments and the time."""

_TASK_OVERHEAD_BYTES = 512
"""An upper bound for a task's other fields, beside data, words, ids and labels: a few numbers and resources."""
_FEW_SCALARS = 4
_ENVELOPE_BYTES = 16 << 10
"""Room for offer ids, and for what the master adds to the tasks for the slave, beside the framework."""


class Orders:
    """What a scheduler can order, as plain methods. `SchedulerDriver` and `AsyncSchedulerDriver` carry it out.

    `stands_by`, `finds_leader`: as for `SchedulerCore`. Raises `WrongType` for anything but a `FrameworkInfo`, and `BadInput`
    if it cannot be sent, or if its executors leave no room in a message for tasks.
    """

    def __init__(self, framework: FrameworkInfo, *, stands_by: bool, finds_leader: bool) -> None:
        self.framework = framework = _sendable_framework(framework)
        """The framework's description, as it is registered."""
        # RunTasks carries the framework, and one of its executors once more.
        largest = max((len(encode_message(executor)) for executor in framework.executors), default=0)
        self._room_bytes = MAX_MESSAGE_BYTES - _ENVELOPE_BYTES - len(encode_message(framework)) - largest
        if self._room_bytes <= 0:
            raise BadInput(
                "this framework's description leaves no room for tasks; put the executors' data into files"
            )
        self._core = SchedulerCore(
            framework, scheduler_id=uuid.uuid4().hex, stands_by=stands_by, finds_leader=finds_leader
        )

    def _order(self, method: Order, *arguments: Any) -> None:
        """Have the loop call this method of the core."""
        raise NotImplementedError

    # -- offers and tasks ---------------------------------------------------------------------------------------------

    def fits_message(self, tasks: Sequence[TaskInfo]) -> bool:
        """Whether these tasks fit into one `reply_to_offer`: together a little under 1 MiB. Raises `BadInput` as that does."""
        return self._fits(list(map(packed_task, tasks)))

    def _fits(self, tasks: Sequence[TaskInfo]) -> bool:
        estimate = sum(map(_most_bytes, tasks))
        if estimate <= self._room_bytes:
            return True
        return sum(len(encode_message(task)) for task in tasks) <= self._room_bytes

    def fault(self, task: TaskInfo) -> str:
        """Why this task cannot be sent, not even alone, as a line for people; empty if it can."""
        try:
            task = packed_task(task)
            _check_task(task)
        except BadInput as error:
            return str(error)
        if self._fits([task]):
            return ""
        size = len(encode_message(task))
        return f"a task of {size} bytes does not fit into a message of {self._room_bytes} bytes; put its data into files"

    def reply_to_offer(
        self,
        offer_ids: str | Sequence[str],
        tasks: Sequence[TaskInfo],
        refuse_seconds: float = 0.0,
    ) -> None:
        """Launch `tasks` on one offer, or on several of one slave. What they leave is free again, and not offered to this
        framework for `refuse_seconds`. A task that cannot be launched is answered by a status with the reason.

        Raises `MessageTooLarge` if the tasks do not fit into a message (see `fits_message`), and `BadInput` for a number,
        text or list beyond its bound (see `offerd.values.bounds`); nothing is sent then. What a callback raises ends the
        driver, so a scheduler that runs tasks of others should ask `fault` before.
        """
        tasks = list(map(packed_task, tasks))
        for task in tasks:
            _check_task(task)
        if not self._fits(tasks):
            size = sum(len(encode_message(task)) for task in tasks)
            raise MessageTooLarge(
                f"{len(tasks)} tasks of {size} bytes do not fit into a reply of {self._room_bytes} bytes; "
                "launch fewer at once, or put their data into files"
            )
        self._order(self._core.reply_to_offer, _offers(offer_ids), tasks, _seconds(refuse_seconds))

    def decline_offer(self, offer_ids: str | Sequence[str], refuse_seconds: float = 5.0) -> None:
        """Give one offer or several back unused. These slaves are not offered to this framework for `refuse_seconds`, unless
        more becomes free on them.
        """
        self._order(self._core.decline_offer, _offers(offer_ids), _seconds(refuse_seconds))

    def revive_offers(self) -> None:
        """Ask for offers again: forget all `refuse_seconds`, and an earlier `set_needs_offers(False)`. Filters stay."""
        self._order(self._core.revive_offers)

    def set_needs_offers(self, needs_offers: bool) -> None:
        """Whether this framework wants offers. Say False when it has no work: others are offered what is free sooner."""
        self._order(self._core.set_needs_offers, needs_offers)

    def set_filters(self, filters: Filters) -> None:
        """Replace the filters by which the master decides what this framework is offered; `Filters()` lifts them.

        Raises `BadInput` for patterns that are too many or too long, and `MessageTooLarge` for filters that fit into no
        message.
        """
        if fault := filters_fault(filters):
            raise BadInput(fault)
        _check_size(filters)
        check(filters)
        self._order(self._core.set_filters, filters)

    def kill_task(self, task_id: str, grace_s: float | None = None) -> None:
        """End a task: TERM, and KILL after `grace_s` seconds (None: the task's own grace). Its last status reports the end.
        Raises `BadInput` for an id or number beyond its bound.
        """
        check(KillTask(FrameworkID(""), TaskID(task_id), grace_s=grace_s))
        self._order(self._core.kill_task, task_id, grace_s)

    def reconcile_tasks(self, task_ids: Sequence[str] = ()) -> None:
        """Have the master send the state of these tasks, or of all that have not ended if none is named. Each comes as a status
        with reason `RECONCILIATION`.
        """
        for task_id in task_ids:
            _check_id(task_id)
        self._order(self._core.reconcile_tasks, list(task_ids))

    def send_framework_message(self, slave_id: str, executor_id: str, data: bytes) -> None:
        """Send bytes to one of the framework's executors; they may be lost. Raises `MessageTooLarge` near 1 MiB."""
        if len(data) + _ENVELOPE_BYTES > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(
                f"a framework message of {len(data)} bytes is too large; put the data into a file"
            )
        _check_id(slave_id, "slave id")
        _check_id(executor_id, "executor id")
        self._order(self._core.send_framework_message, slave_id, executor_id, data)


def _sendable_framework(framework: FrameworkInfo) -> FrameworkInfo:
    if not isinstance(framework, FrameworkInfo):
        raise wrong("framework", "a FrameworkInfo", framework)
    if not framework.account:
        framework = msgspec.structs.replace(framework, account=account_name())
    framework = packed_framework(framework)
    check(framework)
    return framework


def _most_bytes(task: TaskInfo) -> int:
    """An upper bound of the task's size on the wire. It costs a tenth of encoding the task."""
    resources = task.resources
    if resources.ranges or resources.sets or len(resources.scalars) > _FEW_SCALARS:
        return len(encode_message(task))
    letters, words = len(task.task_id) + len(task.executor_id), 0
    if (command := task.command) is not None:
        letters = len(command.shell) + len(command.directory) + sum(map(len, command.argv))
        words = len(command.argv)
        if environment := command.environment:
            letters += sum(map(len, environment)) + sum(map(len, environment.values()))
            words += 2 * len(environment)
        for argv in command.series:
            letters += sum(map(len, argv))
            words += len(argv) + 1
    if labels := task.labels:
        letters += sum(map(len, labels)) + sum(map(len, labels.values()))
        words += 2 * len(labels)
    # UTF-8 takes at most four bytes a letter, and MessagePack five for a length.
    return len(task.data) + 4 * (letters + len(task.name)) + 5 * words + _TASK_OVERHEAD_BYTES


def _check_task(task: TaskInfo) -> None:
    """The same check as `check`, at a tenth of the cost for a task without special fields."""
    if task.command is not None or task.labels or task.name or task.resources.ranges or task.resources.sets:
        check(task)
        return
    _check_id(task.task_id)
    _check_id(task.executor_id, "executor id")
    for seconds in (task.time_limit_s, task.kill_grace_s):
        if seconds is not None and not -MAX_SECONDS <= seconds <= MAX_SECONDS:
            raise BadInput(
                f"task {task.task_id}: {seconds} is not a number of seconds up to {MAX_SECONDS:.0f}"
            )


def _check_id(name: str, what: str = "task id") -> None:
    if len(name) > MAX_ID:
        raise BadInput(f"{what} {printable(name, 64)} has more than {MAX_ID} characters")
    if not name.isascii() and readable(name) != name:
        raise BadInput(f"{what} {printable(name, 64)} is not UTF-8")


def _offers(offer_ids: str | Sequence[str]) -> list[str]:
    ids = [offer_ids] if isinstance(offer_ids, str) else list(offer_ids)
    for offer_id in ids:
        _check_id(offer_id, "offer id")
    return ids


def _seconds(wished: float) -> float:
    """A number of seconds, cut to the most that a message can hold. Raises `BadInput` if it is not a number."""
    if wished != wished:
        raise BadInput("refuse_seconds is not a number")
    return max(-MAX_SECONDS, min(wished, MAX_SECONDS))


def _check_size(value: msgspec.Struct) -> None:
    try:
        size = len(encode_message(value))
    except UnicodeEncodeError:
        return  # `check` names the text
    if size > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
        raise MessageTooLarge(
            f"{type(value).__name__} of {size} bytes do not fit into a message; make them smaller"
        )
