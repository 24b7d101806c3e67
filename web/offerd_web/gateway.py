"""The gateway as a process: the follower, the web server, and their end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from offerd.addresses import HostPort
from offerd.daemons.daemon_log import log_to_stderr
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import Where
from offerd.protocol.change_messages import Changes
from offerd.wire.descriptors import raise_limit
from offerd_web.api.app import application
from offerd_web.api.gate import Gate
from offerd_web.api.timely_protocol import TimelyProtocol
from offerd_web.core.view import ClusterView
from offerd_web.services.callers import Callers
from offerd_web.services.context import Context
from offerd_web.services.desk import Desk
from offerd_web.services.follower import Follower
from offerd_web.services.past import Past
from offerd_web.services.sandboxes import Sandboxes
from offerd_web.services.streams import Streams
from offerd_web.services.web_tokens import ADDRESS_FILE, WebTokens

log = logging.getLogger("offerd.web")

MAX_CONNECTIONS = 2000
BACKLOG = 2048
IDLE_S = 30
"""How long a connection without a request is kept."""
STOP_S = 3
NICENESS = 10
"""The gateway gives way to the cluster's own daemons and to tasks where a host's processors are short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How to run a gateway."""

    master: Where
    listen: HostPort
    """Port 0: a free one."""
    state_dir: Path
    """With web tokens and history; made if it is not there."""
    hosts: tuple[str, ...] = ()
    """Further names by which clients reach it."""
    address_file: Path | None = None
    """Is written once it serves, with `HOST:PORT`."""


def run_gateway(options: GatewayOptions) -> int:
    """Run a gateway until SIGTERM or SIGINT; returns the exit status. Raises `BadInput` with one line if it cannot start."""
    raise_limit()
    log_to_stderr("offerd.web", "offerd.operator", "uvicorn.error")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each stranger's nonsense
    os.nice(NICENESS)
    try:
        options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"cannot make {options.state_dir}: {error.strerror}; choose another with --state-dir"
        ) from None
    with listening(options.listen) as door:
        status = asyncio.run(_run(options, door))
    log.info("the gateway has stopped")
    return status


def listening(place: HostPort) -> socket.socket:
    """A socket that listens there. Raises `BadInput`."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    # asyncio only turns Nagle's algorithm off, which costs 40 ms an answer, where the protocol is named.
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((place.host, place.port))
        door.listen(BACKLOG)  # before anybody reads the address file
    except OSError as error:
        door.close()
        raise BadInput(
            f"cannot listen on {place}: {error.strerror}; stop the program that listens there, or give another --ip or --port"
        ) from None
    return door


def server_config(inside: Gate) -> uvicorn.Config:
    """How this application is served."""
    return uvicorn.Config(
        inside,
        http=TimelyProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=STOP_S,
        server_header=False,
        proxy_headers=False,
    )


async def _run(options: GatewayOptions, door: socket.socket) -> int:
    return await _Gateway(options, door).run()


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would send itself the signal again when it has stopped, and so end with it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Gateway:
    """All parts, while they run in one event loop."""

    def __init__(self, options: GatewayOptions, door: socket.socket) -> None:
        self._options = options
        self._door = door
        self._desk = Desk(options.master)
        self._past = Past(options.state_dir)
        self._context = Context(ClusterView(), self._desk, self._past)
        self._streams, self._sandboxes = Streams(self._context), Sandboxes(self._desk)
        self._follower = Follower(
            options.master, self._context.view.replica, self._take, self._context.absent
        )
        self._server = _Server(self._config())
        self._has_failed = False

    def _config(self) -> uvicorn.Config:
        options = self._options
        hosts = {
            "localhost",
            "127.0.0.1",
            "::1",
            options.listen.host.lower(),
            *(name.lower() for name in options.hosts),
        }
        tokens, callers = WebTokens(options.state_dir), Callers(self._desk)
        return server_config(
            application(self._context, self._streams, self._sandboxes, tokens, callers, hosts)
        )

    async def run(self) -> int:
        """Serve until a signal ends it; returns the exit status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fail)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        feeding = loop.create_task(self._streams.run())
        feeding.add_done_callback(lambda task: task.result())
        self._past.resume(self._context.view)
        self._follower.start(loop)
        try:
            self._say_where()
            await self._server.serve([self._door])
        finally:
            self._stop()
            self._desk.close()
            self._sandboxes.close()
            await asyncio.wait([feeding])
            await self._follower.stop()
            self._past.close()
        return 1 if self._has_failed else 0

    def _say_where(self) -> None:
        """In the log, and in files for commands and for whoever asked for one. Raises `OfferdError`."""
        where = HostPort(self._options.listen.host, self._door.getsockname()[1])
        log.info("the gateway listens on %s", where)
        for file in (self._options.state_dir / ADDRESS_FILE, self._options.address_file):
            if file is None:
                continue
            try:
                file.write_text(f"{where}\n")
            except OSError as error:
                raise OfferdError(f"cannot write {file}: {error.strerror}") from None

    def _take(self, changes: Changes) -> None:
        self._streams.take(self._context.take(changes, self._follower.leader, self._streams.reader))

    def _stop(self) -> None:
        self._server.should_exit = True
        self._streams.end()
        self._sandboxes.end()

    def _fail(self, _loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        """Half of an answer may have been taken over: only a new beginning is sure to be right."""
        if isinstance(what.get("exception"), OSError):
            # asyncio accepts no connections for a second when it can open no more files.
            log.warning("%s: %s", what["message"], what["exception"])
            return
        if not self._has_failed:
            log.critical("the gateway ends: %s", what["message"], exc_info=what.get("exception"))
            self._has_failed = True
        self._stop()
