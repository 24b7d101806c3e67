"""Routes that list and show tasks."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

from litestar import get
from litestar.params import Parameter, QueryParameter

from offerd.ids import FrameworkID, TaskID
from offerd.protocol.change_messages import TaskNow
from offerd.states import TaskState
from offerd_web.api.common import IDENTIFIER, MAX_NAME, errors
from offerd_web.core import shapes
from offerd_web.core.task_filter import TaskFilter
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context
from offerd_web.services.past import ENDED_MARK
from offerd_web.services.refusal import Refusal, not_found

Identifier = Annotated[str, IDENTIFIER]
Wanted = Annotated[str, Parameter(max_length=MAX_NAME)]
Moment = Annotated[float | None, Parameter(ge=0, le=1e11)]
MAX_PAGE = 1000


class StateFilter(StrEnum):
    """Which tasks: of one state, or all open or ended ones."""

    OPEN = "open"
    ENDED = "ended"
    STAGING = "staging"
    RUNNING = "running"
    UNREACHABLE = "unreachable"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    ERROR = "error"
    LOST = "lost"

    def states(self) -> set[TaskState]:
        if self is StateFilter.OPEN:
            return {state for state in TaskState if not state.terminal}
        if self is StateFilter.ENDED:
            return {state for state in TaskState if state.terminal}
        return {TaskState[self.name]}


@get("/tasks", summary="Tasks, open and ended", responses=errors(422))
async def tasks(
    context: Context,
    caller: Caller,
    state_in: Annotated[
        list[StateFilter] | None,
        QueryParameter(name="state", max_items=10, description="Only tasks in one of these states."),
    ] = None,
    framework: Annotated[
        Wanted, Parameter(description="Only tasks of the framework with this id or name.")
    ] = "",
    slave: Annotated[
        Wanted, Parameter(description="Only tasks on the slave with this id or host name.")
    ] = "",
    name: Annotated[Wanted, Parameter(description="Only tasks with this text in their id or name.")] = "",
    user: Annotated[Wanted, Parameter(description="Only tasks that run as this user.")] = "",
    since: Annotated[Moment, Parameter(description="Only tasks that had not ended before this time.")] = None,
    until: Annotated[Moment, Parameter(description="Only tasks that were launched before this time.")] = None,
    limit: Annotated[
        int, Parameter(ge=1, le=MAX_PAGE, description="How many tasks a page has at most.")
    ] = 100,
    after: Annotated[Wanted, Parameter(description="`next` of the page before.")] = "",
) -> shapes.Tasks:
    """Open tasks first, then those that have ended; the latest launch first in both."""
    wanted = TaskFilter(
        frozenset().union(*(each.states() for each in state_in)) if state_in else frozenset(TaskState),
        framework, slave, name, user, since, until,
    )  # fmt: skip
    found, following = open_page(context, caller, wanted, after, limit)
    page = [context.describer(caller).task(task) for task in found]
    if following is None and any(state.terminal for state in wanted.states):
        if len(page) < limit:
            ended, following = await context.past.tasks(wanted, caller.only_of, after, limit - len(page))
            page += ended
        else:
            following = ENDED_MARK
    return shapes.Tasks(tasks=page, next=following, only_of=caller.only_of)


@get("/frameworks/{framework:str}/tasks/{task:str}", summary="One task", responses=errors(404))
async def task(context: Context, caller: Caller, framework: Identifier, task: Identifier) -> shapes.Task:
    """If its id was used several times, the last of them."""
    found = await find_task(context, caller, framework, task)
    if found is None:
        raise not_found("task", task, "/v1/tasks")
    return found


async def find_task(context: Context, caller: Caller, framework: str, task: str) -> shapes.Task | None:
    """The task that is open, or else the last that has ended under this id."""
    if not caller.sees(framework):
        return None
    found = context.view.replica.tasks.get((FrameworkID(framework), TaskID(task)))
    if found is not None:
        return context.describer(caller).task(found)
    return await context.past.task(framework, task)


def open_page(
    context: Context, caller: Caller, wanted: TaskFilter, after: str, limit: int
) -> tuple[list[TaskNow], str | None]:
    """A page of open tasks, and where the next one begins; None: there are no more open ones."""
    if after.startswith(ENDED_MARK) or not any(not state.terminal for state in wanted.states):
        return [], None
    place = _place(after)
    view = context.view
    names = {framework_id: info.name for framework_id, info in view.replica.framework_infos.items()}
    hosts = {slave_id: info.hostname for slave_id, info in view.replica.slave_infos.items()}
    describer = context.describer(caller)

    def matching() -> Iterator[tuple[tuple[float, str, str], TaskNow]]:
        for each in view.replica.tasks.values():
            if (
                each.state in wanted.states
                and wanted.framework in ("", each.framework_id, names.get(each.framework_id))
                and wanted.slave in ("", each.slave_id, hosts.get(each.slave_id))
                and (not wanted.name or wanted.name in each.task_id or wanted.name in each.name)
                and (wanted.until is None or view.wall(each.launched_at) < wanted.until)
                and (not wanted.user or describer.user(each) == wanted.user)
                and caller.sees(each.framework_id)
            ):
                order = (-view.wall(each.launched_at), each.framework_id, each.task_id)
                if place is None or order > place:
                    yield order, each

    found = heapq.nsmallest(limit + 1, matching(), key=lambda one: one[0])
    if len(found) <= limit:
        return [each for _, each in found], None
    launched, framework_id, task_id = found[limit - 1][0]
    return [each for _, each in found[:limit]], f"{-launched:.3f}/{framework_id}/{task_id}"


def _place(after: str) -> tuple[float, str, str] | None:
    """Raises `Refusal` for a text that is no place."""
    if not after:
        return None
    launched, _, rest = after.partition("/")
    framework_id, _, task_id = rest.partition("/")
    try:
        moment = float(launched)
    except ValueError:
        moment = math.nan
    if not math.isfinite(moment):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"after={after} is not the `next` of a page")
    return -moment, framework_id, task_id


ROUTES = [tasks, task]
