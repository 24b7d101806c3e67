"""Routes that show the cluster as it is now."""

from __future__ import annotations

import time
from typing import Annotated

from litestar import Response, get
from litestar.params import Parameter

from offerd.errors import BadInput
from offerd.ids import FrameworkID, SlaveID
from offerd_web.api.common import IDENTIFIER, errors
from offerd_web.core import shapes
from offerd_web.core.describe import explanation
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context
from offerd_web.services.refusal import not_found

Identifier = Annotated[str, IDENTIFIER]


@get("/cluster", sync_to_thread=False, summary="The cluster at a glance", responses=errors())
def cluster(context: Context, caller: Caller) -> shapes.Cluster:
    """Resources, slaves, frameworks and tasks in numbers, and how the gateway follows the master."""
    return context.describer(caller).cluster(time.time(), context.following(), context.leader)


@get("/state", sync_to_thread=False, summary="Everything that is now, in one document", responses=errors())
def state(context: Context, caller: Caller) -> Response[shapes.State]:
    """Slaves, frameworks that have not ended, and open tasks. The ETag changes with each change."""
    answer: Response[shapes.State] = Response(
        context.state(caller),  # type: ignore[arg-type]  # it is that object, as JSON
        media_type="application/json",
        headers={"ETag": f'"{context.view.version}"'},
    )
    return answer


@get("/slaves", sync_to_thread=False, summary="All slaves", responses=errors())
def slaves(context: Context, caller: Caller) -> shapes.Slaves:
    """By id; lost ones are among them."""
    return shapes.Slaves(slaves=list(context.describer(caller).slaves()))


@get("/slaves/{slave:str}", sync_to_thread=False, summary="One slave", responses=errors(404))
def slave(context: Context, caller: Caller, slave: Identifier) -> shapes.Slave:
    """`slave`: its id or host name."""
    return context.describer(caller).slave(context.view.replica.slaves[slave_id_of(context, slave)])


@get("/offers", sync_to_thread=False, summary="Offers that are not answered yet", responses=errors())
def offers(context: Context, caller: Caller) -> shapes.Offers:
    return shapes.Offers(offers=list(context.describer(caller).offers()))


@get("/frameworks", sync_to_thread=False, summary="All frameworks", responses=errors())
def frameworks(
    context: Context,
    caller: Caller,
    ended: Annotated[
        bool, Parameter(description="List also those that have ended and that the master remembers.")
    ] = False,
) -> shapes.Frameworks:
    """By id."""
    found = list(context.describer(caller).frameworks(ended=ended))
    return shapes.Frameworks(frameworks=found, only_of=caller.only_of)


@get("/frameworks/{framework:str}", sync_to_thread=False, summary="One framework", responses=errors(404))
def framework(context: Context, caller: Caller, framework: Identifier) -> shapes.Framework:
    """`framework`: its id."""
    found = context.view.replica.frameworks.get(FrameworkID(framework))
    if found is None or not caller.sees(framework):
        raise not_found("framework", framework, "/v1/frameworks")
    return context.describer(caller).framework(found)


@get("/frameworks/{framework:str}/explanation", summary="Why a framework waits", responses=errors(404, 503))
async def explain(context: Context, caller: Caller, framework: Identifier) -> shapes.Explanation:
    """How long it has been under its share, and what keeps it from more: the master is asked."""
    if FrameworkID(framework) not in context.view.replica.frameworks or not caller.sees(framework):
        raise not_found("framework", framework, "/v1/frameworks")
    try:
        return explanation(await context.desk.ask(lambda client: client.explain_framework(framework)))
    except BadInput:  # the master has forgotten it since
        raise not_found("framework", framework, "/v1/frameworks") from None


@get("/roles", sync_to_thread=False, summary="Roles and their shares", responses=errors())
def roles(context: Context, caller: Caller) -> shapes.Roles:
    """Roles with frameworks that have not ended."""
    return shapes.Roles(roles=context.describer(caller).roles())


def slave_id_of(context: Context, slave: str) -> SlaveID:
    """The id of the slave with this id or host name, rather of one that is not lost. Raises `Refusal`."""
    replica = context.view.replica
    if SlaveID(slave) in replica.slaves:
        return SlaveID(slave)
    found = [
        (replica.slaves[slave_id].state == "lost", slave_id)
        for slave_id, info in replica.slave_infos.items()
        if info.hostname == slave and slave_id in replica.slaves
    ]
    if not found:
        raise not_found("slave", slave, "/v1/slaves")
    return min(found)[1]


ROUTES = [cluster, state, slaves, slave, offers, frameworks, framework, explain, roles]
