"""Routes for Prometheus: the cluster's metrics, the slaves as its targets, and each slave's own metrics."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import HeaderParameter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from offerd.files_access import FilesAccess
from offerd.ids import SlaveID
from offerd.operator import OperatorClient
from offerd_web.api.common import IDENTIFIER, errors
from offerd_web.api.looking import slave_id_of
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context
from offerd_web.services.metrics import GatewayFigures, exposition
from offerd_web.services.refusal import Refusal, not_found
from offerd_web.services.sandboxes import Sandboxes
from offerd_web.services.slave_metrics import SlaveMetricsUnavailable
from offerd_web.services.streams import Streams

Identifier = Annotated[str, IDENTIFIER]


class Target(msgspec.Struct):
    """A slave, as Prometheus' HTTP service discovery wants targets."""

    targets: list[str]
    """This gateway."""
    labels: dict[str, str]
    """The path of the slave's metrics here, its host as `instance`, its id as `slave`."""


@get("/metrics", media_type=CONTENT_TYPE_PLAIN_0_0_4, include_in_schema=False, sync_to_thread=False)
def metrics(context: Context, streams: Streams, caller: Caller) -> Response[bytes]:
    """The cluster and the gateway. For operators, as the names of all frameworks are in it."""
    caller.must_be_operator()
    figures = GatewayFigures(
        is_following=context.following().is_following,
        requests=context.requests,
        streams=streams.open,
        **context.past.figures(),
    )
    return Response(exposition(context.view, time.time(), figures), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@get("/metrics/slaves/{slave:str}", media_type=CONTENT_TYPE_PLAIN_0_0_4, include_in_schema=False)
async def slave_metrics(
    context: Context, sandboxes: Sandboxes, caller: Caller, slave: Identifier
) -> Response[bytes]:
    """The slave is asked now."""
    caller.must_be_operator()
    slave_id = slave_id_of(context, slave)

    def access(client: OperatorClient) -> FilesAccess:
        found = client.slave(slave_id)
        if found is None:
            raise not_found("slave", slave, "/v1/slaves")
        return found.files

    files = await context.desk.ask(access)
    try:
        text = await sandboxes.metrics(files)
    except SlaveMetricsUnavailable as error:
        raise Refusal(HTTPStatus.BAD_GATEWAY, str(error)) from None
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


@get(
    "/v1/prometheus/targets",
    summary="The slaves as targets of Prometheus",
    responses=errors(),
    sync_to_thread=False,
)
def targets(
    context: Context,
    caller: Caller,
    host: Annotated[str, HeaderParameter(name="Host", max_length=300, include_in_schema=False)] = "",
) -> list[Target]:
    """For `http_sd_configs`: each slave that is not lost, by way of this gateway. For operators."""
    caller.must_be_operator()
    replica = context.view.replica
    there = sorted(slave_id for slave_id, slave in replica.slaves.items() if slave.state != "lost")
    return [
        Target(
            [host],
            {
                "__metrics_path__": f"/metrics/slaves/{slave_id}",
                "instance": _host(context, slave_id),
                "slave": slave_id,
            },
        )
        for slave_id in there
    ]


def _host(context: Context, slave_id: SlaveID) -> str:
    info = context.view.replica.slave_infos.get(slave_id)
    return slave_id if info is None else info.hostname


ROUTES = [metrics, slave_metrics, targets]
