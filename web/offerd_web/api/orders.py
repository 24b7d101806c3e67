"""Routes that change something: the gateway's callers may do what their keys allow, and the master does it."""

from __future__ import annotations

import logging
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import post
from litestar.params import Body

from offerd.ids import FrameworkID
from offerd.values.screen_text import printable
from offerd_web.api.common import IDENTIFIER, errors
from offerd_web.api.looking import slave_id_of
from offerd_web.core import shapes
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context
from offerd_web.services.refusal import not_found

Identifier = Annotated[str, IDENTIFIER]
log = logging.getLogger("offerd.web")


class Mode(StrEnum):
    """What may be ordered of a slave."""

    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    DRAINING = "draining"


class ModeOrder(msgspec.Struct, forbid_unknown_fields=True):
    """How a slave is to be from now on."""

    mode: Mode
    deadline_s: Annotated[float, msgspec.Meta(ge=0, le=1e8)] | None = None
    """With `draining`: when tasks that still run are ended. Null: as was set before, or never."""


@post(
    "/frameworks/{framework:str}/tasks/{task:str}/kill",
    status_code=HTTPStatus.OK,
    summary="End a task",
    responses=errors(404, 409),
)
async def kill_task(
    context: Context, caller: Caller, framework: Identifier, task: Identifier
) -> shapes.Answer:
    """Its end is reported like any other."""
    if not caller.sees(framework):
        raise not_found("task", task, "/v1/tasks")
    await context.desk.ask(lambda client: client.kill_task(task, framework))
    _note(caller, f"has task {task} of {framework} killed")
    return shapes.Answer()


@post(
    "/frameworks/{framework:str}/end",
    status_code=HTTPStatus.OK,
    summary="End a framework",
    responses=errors(404, 409),
)
async def end_framework(context: Context, caller: Caller, framework: Identifier) -> shapes.Answer:
    """All its tasks end, and its schedulers are refused from then on."""
    if FrameworkID(framework) not in context.view.replica.frameworks or not caller.sees(framework):
        raise not_found("framework", framework, "/v1/frameworks")
    await context.desk.ask(lambda client: client.end_framework(framework))
    _note(caller, f"has framework {framework} ended")
    return shapes.Answer()


@post(
    "/slaves/{slave:str}/mode",
    status_code=HTTPStatus.OK,
    summary="Drain a slave",
    responses=errors(404, 409, 413, 422),
)
async def change_mode(
    context: Context, caller: Caller, slave: Identifier, data: Annotated[ModeOrder, Body()]
) -> shapes.Answer:
    """Drain it, offer it to nobody (`deactivated`), or offer it again (`active`). For operators."""
    caller.must_be_operator()
    slave_id = slave_id_of(context, slave)
    await context.desk.ask(
        lambda client: client.change_slave_mode(slave_id, data.mode.value, data.deadline_s)
    )
    _note(caller, f"sets slave {slave_id} to {data.mode.value}")
    return shapes.Answer()


def _note(caller: Caller, what: str) -> None:
    log.info("%s %s", caller.name or "somebody", printable(what))


ROUTES = [kill_task, end_framework, change_mode]
