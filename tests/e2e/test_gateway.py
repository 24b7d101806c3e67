"""`offerd web` beside a real cluster: each route, orders, streams, deaths, and clients that mean no good."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from helpers.accounts import offerd_as_nobody
from helpers.cli import wait_until
from helpers.gateway import EventStream, RealGateway
from helpers.recorder import Recorder
from offerd.errors import FrameworkError
from offerd.messages import TaskState
from offerd_cli.local_cluster import LocalCluster
from offerd_web.services.sandboxes import MOST_READERS

STREAMS = 1000
MAX_MEMORY_BYTES = 150 << 20
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=2, cpus="2", mem="512M", isolation="noop", masters=2, zk="auto") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def gateway(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGateway]:
    gateway = RealGateway(tmp_path_factory.mktemp("gateway"), cluster.address)
    try:
        wait_until(lambda: len(slaves(gateway)) == 2, "the slaves to be seen")
        yield gateway
    finally:
        gateway.kill()


def slaves(gateway: RealGateway) -> list[str]:
    return [each["slave_id"] for each in gateway.get("/v1/slaves")["slaves"] if each["state"] == "active"]


def path_of(gateway: RealGateway, task_id: str) -> str:
    """Where the task is, once the gateway has heard of it."""

    def found() -> list[dict[str, str]]:
        tasks: list[dict[str, str]] = gateway.get("/v1/tasks", name=task_id)["tasks"]
        return [each for each in tasks if each["task_id"] == task_id and each["state"] == "TASK_RUNNING"]

    wait_until(found, f"{task_id} to be seen")
    framework = f"/v1/frameworks/{found()[0]['framework_id']}"
    with gateway.client() as client:
        wait_until(lambda: client.get(framework).status_code == 200, "its framework to be seen")
    return f"{framework}/tasks/{task_id}"


def refuse_what_is_wrong(client: httpx.Client, one: str, path: str) -> None:
    """Each answer is a problem document (RFC 9457). `one`: a framework; `path`: a task of it."""
    for wrong, status in (
        (f"{path}/logs/other", 404),
        (f"{path}/files?path=nothing", 404),
        (f"{path}/files?path=..%2f..", 422),
        (f"{path}/files/content?path=/etc/passwd", 422),
        (f"{path}/files/content?path=d/../../x", 422),
        (f"{path}x", 404),
        (f"{one}x", 404),
        ("/v1/slaves/x", 404),
        ("/v1/tasks?limit=0", 400),
        ("/v1/tasks?after=nan/x/y", 422),
        (f"{path}/logs/stdout?offset=-1", 400),
        ("/v1/x", 404),
    ):
        answer = client.get(wrong)
        assert answer.status_code in (status, 400), (wrong, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", wrong
        assert answer.json()["detail"]


def test_each_route_answers_about_a_task_that_runs(cluster: LocalCluster, gateway: RealGateway) -> None:
    with Recorder(cluster.address) as framework, gateway.client() as client:
        framework.run("t", f"echo '{SCRIPT}'; mkdir d; echo inside > d/f; sleep 60")
        framework.wait("t", TaskState.RUNNING)
        path = path_of(gateway, "t")
        one = path.rpartition("/tasks/")[0]
        slave = client.get(path).json()["slave_id"]
        for place in (
            "/v1/cluster",
            "/v1/state",
            "/v1/slaves",
            f"/v1/slaves/{slave}",
            "/v1/offers",
            "/v1/frameworks",
            one,
            f"{one}/explanation",
            "/v1/roles",
            "/v1/tasks",
            path,
            "/v1/prometheus/targets",
            "/metrics",
            f"/metrics/slaves/{slave}",
            "/v1/openapi.json",
            "/",
        ):
            answer = client.get(place)
            assert answer.status_code == 200, (place, answer.text)
            assert answer.headers["x-content-type-options"] == "nosniff"
        wait_until(lambda: SCRIPT in client.get(f"{path}/logs/stdout").text, "the log")
        log = client.get(f"{path}/logs/stdout")
        assert log.headers["content-type"].startswith("text/plain")
        assert client.get(f"{path}/logs/stdout", params={"offset": 8}).text == SCRIPT[8:] + "\n"
        assert client.get(f"{path}/logs/stderr").text == ""
        entries = client.get(f"{path}/files").json()["entries"]
        assert {"d", "stdout"} <= {each["name"] for each in entries}
        content = client.get(f"{path}/files/content", params={"path": "d/f"})
        assert content.content == b"inside\n"
        assert content.headers["content-disposition"] == "attachment"
        refuse_what_is_wrong(client, one, path)
        killed = client.post(f"{path}/kill")
        assert (killed.status_code, killed.json()) == (200, {"done": True})
        framework.wait_end("t")
        assert framework.statuses["t"][-1].state is TaskState.KILLED
        again = client.post(f"{path}/kill")
        assert again.status_code in (404, 409)
        assert again.headers["content-type"] == "application/problem+json"


def test_a_log_is_followed_to_the_end_of_its_task(cluster: LocalCluster, gateway: RealGateway) -> None:
    with Recorder(cluster.address) as framework, gateway.client() as client:
        framework.run("log", "echo first; until [ -e go ]; do sleep 0.05; done; echo last")
        framework.wait("log", TaskState.RUNNING)
        path = path_of(gateway, "log")
        with client.stream("GET", f"{path}/logs/stdout", params={"follow": "true"}) as answer:
            pieces = answer.iter_text()
            got = next(pieces)
            assert got == "first\n"
            (found,) = _sandboxes(cluster, "first\n")
            (found.parent / "go").touch()
            got += "".join(pieces)
        assert got == "first\nlast\n"
        framework.wait_end("log")


def _sandboxes(cluster: LocalCluster, content: str) -> list[Path]:
    """The files of standard output with this content."""
    return [path for path in cluster.base.rglob("stdout") if path.is_file() and path.read_text() == content]


def test_slaves_are_drained_and_brought_back(gateway: RealGateway) -> None:
    slave = slaves(gateway)[0]
    with gateway.client() as client:

        def order(mode: str, states: tuple[str, ...]) -> None:
            answer = client.post(f"/v1/slaves/{slave}/mode", json={"mode": mode})
            assert answer.status_code == 200, answer.text
            wait_until(lambda: client.get(f"/v1/slaves/{slave}").json()["state"] in states, mode)

        order("draining", ("draining", "drained"))
        order("deactivated", ("deactivated",))
        order("active", ("active",))


def test_events_go_on_where_a_client_was_cut_off(cluster: LocalCluster, gateway: RealGateway) -> None:
    with (
        EventStream(gateway.url, gateway.token, "/v1/events") as events,
        Recorder(cluster.address) as framework,
    ):
        framework.run("e1", "true")
        framework.wait_end("e1")
        ended = events.wait(lambda event: event.data.get("task_id") == "e1" and "FINISHED" in str(event.data))
        events.close()
        framework.run("e2", "true")
        framework.wait_end("e2")
        with EventStream(gateway.url, gateway.token, "/v1/events", ended.number) as more:
            more.wait(lambda event: event.data.get("task_id") == "e2" and "FINISHED" in str(event.data))
            assert not [event for event in more.events if event.kind == "missed"]
            assert "e1" not in [event.data.get("task_id") for event in more.events]
    for unknown in ("x-1", "1", ended.number + "0000000", "-1"):
        with EventStream(gateway.url, gateway.token, "/v1/events", unknown) as lost:
            lost.wait(lambda event: event.kind == "missed")


def test_a_framework_is_ended(cluster: LocalCluster, gateway: RealGateway) -> None:
    framework = Recorder(cluster.address)
    framework.__enter__()
    framework.run("t", "sleep 60")
    framework.wait("t", TaskState.RUNNING)
    one = path_of(gateway, "t").rpartition("/tasks/")[0]
    with gateway.client() as client:
        assert client.post(f"{one}/end").status_code == 200
        wait_until(lambda: client.get(one).json()["state"] == "ended", "its end")
    with pytest.raises(FrameworkError, match="by hand"):
        framework.driver.join(20)


# -- who means no good --------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_another_account_gets_nothing(gateway: RealGateway) -> None:
    done = offerd_as_nobody("web", "token", "list", "--state-dir", str(gateway.directory / "web"))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert gateway.token not in done.stdout + done.stderr
    for path in (gateway.directory / "web").iterdir():
        # Where it listens is no secret, and the directory is closed to others.
        assert path.name == "address" or path.stat().st_mode & 0o077 == 0, path
    assert (gateway.directory / "web").stat().st_mode & 0o077 == 0
    for sent in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
        b"\x16\x03\x01\x02\x00",
    ):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(sent + b"\r\n\r\n")
            got = connection.recv(1 << 16)
            assert got.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")), got
            assert b"slave" not in got


def test_every_port_of_the_gateway_asks_for_a_token(gateway: RealGateway) -> None:
    listening = {
        where.laddr.port
        for where in psutil.Process(gateway.process.pid).net_connections("tcp")
        if where.status == psutil.CONN_LISTEN
    }
    assert listening == {gateway.port}


def test_a_thousand_streams_stay_within_bounds_and_one_more_is_refused(
    cluster: LocalCluster, gateway: RealGateway
) -> None:
    head = (
        f"GET /v1/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.token}\r\n\r\n".encode()
    )
    with contextlib.ExitStack() as stack, gateway.client() as client:
        connections = []
        for _ in range(STREAMS):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
            )
            connection.sendall(head)
            connections.append(connection)
        for connection in connections:
            assert connection.recv(1 << 12).startswith(b"HTTP/1.1 200")
        wait_until(lambda: client.get("/v1/live").status_code == 503, "the limit")
        with Recorder(cluster.address) as framework:  # nobody reads meanwhile
            for number in range(5):
                framework.run(f"t{number}", "true")
            for number in range(5):
                framework.wait_end(f"t{number}")
        began = time.monotonic()
        assert client.get("/v1/cluster").status_code == 200
        assert time.monotonic() - began < 10
        used_bytes = psutil.Process(gateway.process.pid).memory_info().rss
        print(f"{STREAMS} streams: {used_bytes >> 20} MiB")
        assert used_bytes < MAX_MEMORY_BYTES
    with gateway.client() as client:

        def has_room() -> bool:
            with client.stream("GET", "/v1/live") as answer:
                return answer.status_code == 200

        wait_until(has_room, "room for others")


def test_clients_that_hang_up_at_once_leave_room_for_readers(
    cluster: LocalCluster, gateway: RealGateway
) -> None:
    with Recorder(cluster.address) as framework, gateway.client() as client:
        framework.run("r", "echo here; sleep 60")
        framework.wait("r", TaskState.RUNNING)
        path = path_of(gateway, "r")
        wait_until(lambda: client.get(f"{path}/logs/stdout").text == "here\n", "the log")
        head = f"GET {path}/logs/stdout?follow=true HTTP/1.1\r\nHost: localhost\r\n"
        for _ in range(2 * MOST_READERS):
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
                connection.sendall(f"{head}Authorization: Bearer {gateway.token}\r\n\r\n".encode())
        wait_until(lambda: client.get(f"{path}/logs/stdout").status_code == 200, "room")
        with contextlib.ExitStack() as stack:
            answers = [
                stack.enter_context(client.stream("GET", f"{path}/logs/stdout", params={"follow": "true"}))
                for _ in range(MOST_READERS // 2)
            ]
            assert {answer.status_code for answer in answers} == {200}


def test_more_connections_than_open_files_do_not_end_it(gateway: RealGateway) -> None:
    process = psutil.Process(gateway.process.pid)
    limits = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 10, limits[1]))
    log = gateway.directory / "log"
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_READERS + 30):  # what was open above may only close now
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=20))
        wait_until(lambda: "Too many open files" in log.read_text(), "a line in the log")
    process.rlimit(psutil.RLIMIT_NOFILE, limits)
    assert gateway.get("/v1/cluster")["following"]["is_following"]


# -- deaths -------------------------------------------------------------------------------------------------------------


def test_the_gateway_is_killed_and_comes_back(gateway: RealGateway) -> None:
    before = gateway.get("/v1/frameworks", ended=True)
    with EventStream(gateway.url, gateway.token, "/v1/live") as live:
        first = live.wait(lambda event: event.data["is_first"])
        gateway.kill()
        wait_until(lambda: live.is_over, "the stream to end")
    gateway.again()
    wait_until(lambda: gateway.get("/v1/cluster")["following"]["is_following"], "the master to be followed")
    after = gateway.get("/v1/frameworks", ended=True)
    assert [each["framework_id"] for each in after["frameworks"]] == [
        each["framework_id"] for each in before["frameworks"]
    ]
    with EventStream(gateway.url, gateway.token, "/v1/live", first.number) as live:
        assert live.wait(lambda event: True).data["is_first"], "numbers of another life mean nothing"


def test_another_master_leads(cluster: LocalCluster, gateway: RealGateway) -> None:
    master = gateway.get("/v1/cluster")["master"]
    leader = next(daemon for daemon in cluster.masters if _listens(daemon.pid, master["address"]))
    with EventStream(gateway.url, gateway.token, "/v1/live") as live:
        live.wait(lambda event: event.data["is_first"])
        os.kill(leader.pid, signal.SIGKILL)
        said = live.wait(lambda event: event.data["cluster"]["following"]["why"] != "")
        assert not said.data["cluster"]["following"]["is_following"]
        live.wait(
            lambda event: (event.data["cluster"]["master"] or master)["master_id"] != master["master_id"]
        )
        wait_until(lambda: gateway.get("/v1/cluster")["following"]["is_following"], "the new master")
        wait_until(lambda: len(slaves(gateway)) == 2, "the slaves with it")


def _listens(pid: int, address: str) -> bool:
    return any(
        where.status == psutil.CONN_LISTEN and f":{where.laddr.port}" == address[address.rindex(":") :]
        for where in psutil.Process(pid).net_connections("tcp")
    )


def test_it_ends_in_time_with_streams_open(gateway: RealGateway) -> None:
    streams = [
        EventStream(gateway.url, gateway.token, path) for path in ("/v1/live", "/v1/events", "/v1/live")
    ]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as half:
        half.sendall(b"GET / HT")
        streams[0].wait(lambda event: True)
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 5
    for stream in streams:
        stream.close()
    text = (gateway.directory / "log").read_text()
    assert "Traceback" not in text, text
    assert gateway.token not in text
    assert json.dumps(SCRIPT) not in text
