"""Gateways for tests: one in the test's process that serves what the test gives it, and real ones beside a cluster."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar, cast

import httpx
import uvicorn

from helpers.cli import wait_until
from offerd.addresses import HostPort
from offerd.errors import BadInput, MasterUnreachable, OfferdError
from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.messages import FrameworkInfo, SlaveInfo
from offerd.protocol.change_messages import (
    Changes,
    EndedTask,
    ExecutorNow,
    FrameworkNow,
    MasterNow,
    OfferNow,
    SlaveNow,
    TaskNow,
)
from offerd.protocol.key_messages import Rights
from offerd.resources import Resources
from offerd.states import TaskState
from offerd_web.api.app import application
from offerd_web.core.view import ClusterView
from offerd_web.gateway import listening, server_config
from offerd_web.services.callers import Callers
from offerd_web.services.context import Context
from offerd_web.services.desk import Desk
from offerd_web.services.past import Past
from offerd_web.services.sandboxes import Sandboxes
from offerd_web.services.streams import Streams
from offerd_web.services.web_tokens import WebTokens

T = TypeVar("T")
OWNERS = ("alice", "bob")


def framework_of(owner: str) -> FrameworkID:
    return FrameworkID(f"F-{owner}@{owner}")


def a_task(owner: str, task_id: str, launched_at: float = 50.0, **more: Any) -> TaskNow:
    """A task that runs on the slave S1 for the framework of this owner."""
    fields: dict[str, Any] = {
        "slave_id": SlaveID("S1"), "executor_id": ExecutorID("e"), "state": TaskState.RUNNING, "name": f"name of {task_id}",
        "resources": Resources({"cpus": 500, "mem": 1 << 20}), "time_limit_s": 60.0, "is_long": False,
        "running_since": launched_at + 1, "container_id": ContainerID("c"), "is_command": True,
        "is_being_killed": False, **more,
    }  # fmt: skip
    return TaskNow(TaskID(task_id), framework_of(owner), launched_at=launched_at, **fields)


def the_end(task: TaskNow, ended_at: float = 60.0) -> EndedTask:
    """How this task ended."""
    return EndedTask(
        task.task_id, task.framework_id, task.slave_id, task.executor_id, TaskState.FINISHED, task.name,
        task.resources, task.time_limit_s, "", "", 0, task.launched_at, task.running_since, ended_at,
        task.container_id, task.is_command,
    )  # fmt: skip


def changes(now: float = 100.0, **what: Any) -> Changes:
    """An answer of a master whose clock shows `now`."""
    what.setdefault("master", MasterNow("M1", "1.0", "drf", 10.0))
    return Changes("origin", 1, 1, now, **what)


def two_owners() -> Changes:
    """All of a cluster with one slave and two frameworks, alice's and bob's, each with a task, an executor and an offer."""
    resources = Resources({"cpus": 4000, "mem": 4 << 30})
    mine = {owner: framework_of(owner) for owner in OWNERS}
    few = Resources({"cpus": 100, "mem": 1 << 20})
    slave = SlaveNow(
        SlaveID("S1"), "active", 20.0, True, resources, {},
        [ExecutorNow(mine[owner], ExecutorID("e"), few, owner) for owner in OWNERS],
        [OfferNow(OfferID(f"O-{owner}"), mine[owner], few, 130.0) for owner in OWNERS],
    )  # fmt: skip
    return changes(
        is_reset=True,
        slave_infos=[SlaveInfo("host-1", resources, SlaveID("S1"))],
        slaves=[slave],
        framework_infos=[FrameworkInfo(f"work of {owner}", mine[owner], role=owner) for owner in OWNERS],
        frameworks=[FrameworkNow(mine[owner], "active", 30.0) for owner in OWNERS],
        tasks=[a_task(owner, f"task-{owner}") for owner in OWNERS],
    )


class StandIn:
    """Takes a master's place behind the desk: it notes orders, and knows nothing else."""

    def __init__(self) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.files: dict[Any, Any] = {}

    def kill_task(self, task_id: str, framework_id: str) -> None:
        self.orders.append(("kill", task_id, framework_id))

    def end_framework(self, framework_id: str) -> None:
        self.orders.append(("end", framework_id))

    def change_slave_mode(self, slave_id: str, mode: str, deadline_s: float | None) -> None:
        self.orders.append(("mode", slave_id, mode, deadline_s))

    def explain_framework(self, framework_id: str) -> Any:
        raise BadInput(f"there is no framework {framework_id}")

    def find_task(self, task_id: str) -> list[Any]:
        return []

    def slave(self, slave_id: str) -> None:
        return None


class FakeDesk(Desk):
    """Answers at once. `keys`: the owners of keys and their rights; None: peers have no keys."""

    def __init__(self, keys: dict[str, Rights] | None = None) -> None:
        self.has_keys = keys is not None
        self.keys = keys or {}
        self.master = StandIn()
        self.is_away = False
        self.asked = 0

    async def ask(self, question: Callable[[Any], T]) -> T:
        self.asked += 1
        if self.is_away:
            raise MasterUnreachable("no master answers")
        return question(self.master)

    async def rights(self) -> dict[str, Rights]:
        return await self.ask(lambda _: dict(self.keys))

    def close(self) -> None:
        """Nothing is open."""


def bare_context() -> Context:
    """What routes use, without a master and without a past."""
    return Context(ClusterView(), FakeDesk(), cast(Past, None))


class HeldGateway:
    """A gateway in a thread of the test, with a view that only the test changes: `with HeldGateway(directory) as gateway`."""

    def __init__(self, directory: Path, keys: dict[str, Rights] | None = None) -> None:
        self.desk = FakeDesk(keys)
        self.past = Past(directory)
        self.context = Context(ClusterView(), self.desk, self.past)
        self.past.resume(self.context.view)
        self.streams = Streams(self.context)
        self.sandboxes = Sandboxes(self.desk)
        self.tokens = WebTokens(directory)
        self.callers = Callers(self.desk)
        self.faults: list[dict[str, Any]] = []
        """What would have ended a real gateway."""
        self._door = listening(HostPort("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.application = application(
            self.context, self.streams, self.sandboxes, self.tokens, self.callers, ["127.0.0.1", "localhost"]
        )
        self.config = server_config(self.application)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> HeldGateway:
        self._thread.start()
        wait_until(lambda: hasattr(self, "server") and self.server.started, "the gateway to serve")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.streams.end()
        self.sandboxes.end()
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the gateway does not end"
        self._door.close()
        self.sandboxes.close()
        self.past.close()

    def _serve(self) -> None:
        async def run() -> None:
            self._loop.set_exception_handler(lambda _, what: self.faults.append(what))
            self.server = uvicorn.Server(self.config)
            feeding = asyncio.create_task(self.streams.run())
            await self.server.serve([self._door])
            await feeding

        self._loop.run_until_complete(run())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def do(self, function: Callable[[], T]) -> T:
        """Call it in the gateway's event loop."""
        done: Future[T] = Future()

        def call() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # marked: the test gets it
                done.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return done.result(20)

    def take(self, changes: Changes) -> None:
        """The master has answered this."""
        self.do(lambda: self.streams.take(self.context.take(changes, "127.0.0.1:5050", self.streams.reader)))

    def token(self, owner: str = "", ttl_s: float | None = None) -> str:
        return self.tokens.make(owner, time.time(), ttl_s)

    def client(self, owner: str | None = "", **more: Any) -> httpx.Client:
        """A client with a token of this owner; None: without one."""
        headers = {} if owner is None else {"Authorization": f"Bearer {self.token(owner)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, **more)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


class ServerEvent(NamedTuple):
    """One server-sent event."""

    number: str
    kind: str
    data: dict[str, Any]


class EventStream:
    """Reads server-sent events of a path, in a thread."""

    def __init__(self, url: str, token: str, path: str, last_id: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}", **({"Last-Event-ID": last_id} if last_id else {})}
        self.events: list[ServerEvent] = []
        self.beats = 0
        self.is_over = False
        self._client = httpx.Client(base_url=url, headers=headers, timeout=60)
        self._response = self._client.send(self._client.build_request("GET", path), stream=True)
        self.status = self._response.status_code
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if not self.is_over:
            stream: Any = self._response.extensions["network_stream"]
            stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._client.close()

    def _read(self) -> None:
        found: dict[str, str] = {}
        try:
            for line in self._response.iter_lines():
                if line.startswith(":"):
                    self.beats += 1
                elif line:
                    name, _, value = line.partition(": ")
                    found[name] = value
                elif found:
                    self.events.append(ServerEvent(found["id"], found["event"], json.loads(found["data"])))
                    found = {}
        except httpx.HTTPError:
            pass
        finally:
            self.is_over = True

    def wait(self, is_it: Callable[[ServerEvent], bool]) -> ServerEvent:
        """The first event of this kind, which may have come already."""
        wait_until(lambda: any(map(is_it, list(self.events))), "an event")
        return next(filter(is_it, self.events))


class RealGateway:
    """`offerd web` as a process, with a token of this account."""

    def __init__(self, directory: Path, master: str, *words: str, port: int = 0) -> None:
        self.directory = directory
        self._words = ["--master", master, *words]
        self.port = port
        self._start()
        self.token = self.offerd("token", "new", "--master", master).strip()

    def _start(self) -> None:
        address_file = self.directory / "address"
        address_file.unlink(missing_ok=True)
        self.log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "offerd_cli.main", "web", *self._words, "--port", str(self.port),
                "--state-dir", str(self.directory / "web"), "--address-file", str(address_file),
                "--die-with-parent",
            ],
            stderr=self.log,
        )  # fmt: skip
        wait_until(lambda: address_file.exists() and address_file.read_text().endswith("\n"), "a gateway")
        self.address = address_file.read_text().strip()
        self.port = int(self.address.rpartition(":")[2])
        self.url = f"http://{self.address}"

    def again(self) -> None:
        """Start it once more, on the same port."""
        self._start()

    def offerd(self, *words: str) -> str:
        """The output of `offerd web ...` for its state directory."""
        command = [sys.executable, "-m", "offerd_cli.main", "web", *words]
        done = subprocess.run(
            [*command, "--state-dir", str(self.directory / "web")],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OfferdError(done.stderr)
        return done.stdout

    def client(self, token: str | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token or self.token}"}, timeout=30
        )

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at this path."""
        with self.client() as client:
            answer = client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()
