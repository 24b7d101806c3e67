"""Routes that look into the history."""

from __future__ import annotations

import time
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

from litestar import get
from litestar.params import Parameter

from offerd.states import TaskState
from offerd_web.api.common import MAX_NAME, errors
from offerd_web.core.past_shapes import (
    Gap,
    Gaps,
    Lanes,
    Report,
    ReportRow,
    Share,
    Shares,
    SlaveChange,
    SlaveChanges,
    Utilization,
    Utilizations,
)
from offerd_web.core.task_filter import TaskFilter
from offerd_web.services.callers import Caller
from offerd_web.services.past import Past, usual
from offerd_web.services.refusal import Refusal

Since = Annotated[float | None, Parameter(ge=0, le=1e11, description="Unix time.  [default: an hour ago]")]
Until = Annotated[float | None, Parameter(ge=0, le=1e11, description="Unix time.  [default: now]")]
Step = Annotated[float, Parameter(ge=1, le=1e7, description="Seconds that are averaged into one point.")]
HOUR_S = 3600.0


class By(StrEnum):
    """What a report has a row for."""

    ROLE = "role"
    FRAMEWORK = "framework"
    USER = "user"
    DAY = "day"


def _span(since: float | None, until: float | None) -> tuple[float, float]:
    """Raises `Refusal` for a time that ends before it begins."""
    end = time.time() if until is None else until
    begin = end - HOUR_S if since is None else since
    if begin >= end:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "`since` is not before `until`")
    return begin, end


async def _gaps(past: Past, since: float, until: float) -> list[Gap]:
    return [
        Gap(each.since, each.until, each.missed) for each in await past.ask(lambda h: h.gaps(since, until))
    ]


@get("/shares", summary="Shares of frameworks over time", responses=errors(409, 422))
async def shares(
    past: Past, caller: Caller, since: Since = None, until: Until = None, step: Step = 10.0
) -> Shares:
    """Averages over steps, in the order of time. A framework that held nothing in a step is not in it."""
    begin, end = _span(since, until)
    found = await past.ask(lambda history: history.shares(begin, end, step, caller.only_of))
    points = [
        Share(
            point.at, point.framework_id, point.framework_name, point.role, point.share, point.held_millicpus / 1000,
            point.held_mem_bytes, point.running,
        )
        for point in found
    ]  # fmt: skip
    return Shares(points, await _gaps(past, begin, end))


@get("/utilization", summary="Use of resources over time", responses=errors(409, 422))
async def utilization(
    past: Past, since: Since = None, until: Until = None, step: Step = 10.0
) -> Utilizations:
    """Averages of the whole cluster over steps, in the order of time."""
    begin, end = _span(since, until)
    found = await past.ask(lambda history: history.utilization(begin, end, step))
    points = [
        Utilization(
            point.at,
            point.resource,
            *(
                usual(point.resource, amount)
                for amount in (point.total, point.held, point.offered, point.used)
            ),
        )
        for point in found
    ]
    return Utilizations(points, await _gaps(past, begin, end))


@get("/gaps", summary="What the history lacks", responses=errors(409, 422))
async def gaps(past: Past, since: Since = None, until: Until = None) -> Gaps:
    """Times of which it may lack ends of tasks; the oldest first."""
    return Gaps(await _gaps(past, *_span(since, until)))


@get("/slave-changes", summary="What has happened to slaves", responses=errors(409, 422))
async def slave_changes(past: Past, since: Since = None, until: Until = None) -> SlaveChanges:
    """The oldest first."""
    begin, end = _span(since, until)
    found = await past.ask(lambda history: history.slave_changes(begin, end))
    return SlaveChanges([SlaveChange(one.at, one.slave_id, one.hostname, one.event) for one in found])


@get("/lanes", summary="Ended tasks as bars in lanes", responses=errors(409, 422))
async def lanes(
    past: Past,
    caller: Caller,
    since: Since = None,
    until: Until = None,
    slave: Annotated[
        str, Parameter(max_length=MAX_NAME, description="Only on the slave with this id or host name.")
    ] = "",
) -> Lanes:
    """The latest launch first. Open tasks are in /v1/live and /v1/state."""
    begin, end = _span(since, until)
    ended = frozenset(state for state in TaskState if state.terminal)
    bars, is_cut = await past.bars(TaskFilter(ended, slave=slave, since=begin, until=end), caller.only_of)
    return Lanes(bars, is_cut, await _gaps(past, begin, end))


@get("/report", summary="What was held, used and wasted", responses=errors(409, 422))
async def report(
    past: Past, caller: Caller, since: Since = None, until: Until = None, by: By = By.FRAMEWORK
) -> Report:
    """Whole days (UTC), from that of `since` to that of `until`; of tasks that have ended. Who held most comes first."""
    begin, end = _span(since, until)
    rows = await past.ask(lambda history: history.report(begin, end, by.value, caller.only_of))
    return Report([ReportRow(*row) for row in rows], await _gaps(past, begin, end), caller.only_of)


ROUTES = [shares, utilization, gaps, slave_changes, lanes, report]
