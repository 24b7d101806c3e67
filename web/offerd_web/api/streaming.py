"""Routes of server-sent events."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated

from litestar import get
from litestar.params import HeaderParameter
from litestar.response import Stream

from offerd_web.api.common import errors, streamed
from offerd_web.services.callers import Caller
from offerd_web.services.streams import Streams

MEDIA_TYPE = "text/event-stream"
LastEventID = Annotated[str, HeaderParameter(name="Last-Event-ID", max_length=100)]


@get("/live", summary="How everything is, and then each change", media_type=MEDIA_TYPE, responses=errors())
async def live(
    streams: Streams, caller: Caller, exits: AsyncExitStack, last_event_id: LastEventID = ""
) -> Stream:
    """Server-sent events for the page. The first has everything (`is_first`), each later one what has changed."""
    return streamed(streams.live(caller, last_event_id), exits, MEDIA_TYPE)


@get("/events", summary="What happens", media_type=MEDIA_TYPE, responses=errors())
async def events(
    streams: Streams, caller: Caller, exits: AsyncExitStack, last_event_id: LastEventID = ""
) -> Stream:
    """Server-sent events, one for each that `offerd events` shows, from now on. With `Last-Event-ID` those since that one; if
    they are not kept any more, an event `missed` says so.
    """
    return streamed(streams.events(caller, last_event_id), exits, MEDIA_TYPE)


ROUTES = [live, events]
