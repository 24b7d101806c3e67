"""Callers that are no operators, on every route; and rights that change while somebody is there."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.cli import wait_until
from helpers.gateway import EventStream, HeldGateway, a_task, changes, framework_of, the_end, two_owners
from offerd.ids import FrameworkID
from offerd.protocol.change_messages import FrameworkNow
from offerd.protocol.key_messages import Rights
from offerd_web.api import gate
from offerd_web.services import callers

OPERATOR, USER = Rights(operator=True), Rights(roles=["*"], users=["alice"])
MINE, OTHERS = framework_of("alice"), framework_of("bob")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[HeldGateway]:
    with HeldGateway(tmp_path, {"root": OPERATOR, "alice": USER, "bob": USER}) as gateway:
        gateway.take(two_owners())
        yield gateway
        gc.collect()  # tasks whose errors nobody asked for report them now
        assert gateway.faults == []


TASK = "/v1/frameworks/{framework}/tasks/{task}"
READS = {
    "/v1/cluster": (200, 200), "/v1/state": (200, 200), "/v1/slaves": (200, 200), "/v1/slaves/{slave}": (200, 200),
    "/v1/offers": (200, 200), "/v1/frameworks": (200, 200), "/v1/frameworks/{framework}": (200, 404),
    "/v1/frameworks/{framework}/explanation": (404, 404), "/v1/roles": (200, 200), "/v1/tasks": (200, 200),
    TASK: (200, 404), TASK + "/logs/{name}": (404, 404), TASK + "/files": (404, 404), TASK + "/files/content": (404, 404),
    "/v1/prometheus/targets": (403, 403), "/metrics": (403, 403), "/metrics/slaves/{slave}": (403, 403),
    "/v1/openapi.json": (200, 200), "/": (200, 200), "/v1/live": (200, 200), "/v1/events": (200, 200),
    "/v1/utilization": (200, 200), "/v1/shares": (200, 200), "/v1/lanes": (200, 200), "/v1/report": (200, 200),
    "/v1/gaps": (200, 200), "/v1/slave-changes": (200, 200),
}  # fmt: skip
"""What alice is answered about a task of alice, and about bob's. The stand-in for the master knows no task's files."""
ORDERS = {
    TASK + "/kill": (200, 404),
    "/v1/frameworks/{framework}/end": (200, 404),
    "/v1/slaves/{slave}/mode": (403, 403),
}
NOT_MINE = {"/", "/page/{name}", "/v1/openapi.json"}


def routes(gateway: HeldGateway) -> set[tuple[str, str]]:
    """All methods and paths that there are."""
    inside: Any = gateway.application._inside
    found = set()
    for route in inside.routes:
        for handler in route.route_handlers:
            for method in handler.http_methods - {"OPTIONS"}:
                found.add((method, str(route.path_format)))
    return found


def test_every_route_is_tried_here(gateway: HeldGateway) -> None:
    tried = (
        {("GET", path) for path in READS} | {("POST", path) for path in ORDERS} | {("GET", "/page/{name}")}
    )
    assert {pair for pair in routes(gateway) if "openapi.json/" not in pair[1]} == tried


def filled(path: str, owner: str) -> str:
    return path.format(framework=framework_of(owner), task=f"task-{owner}", slave="S1", name="stdout")


def test_who_is_no_operator_sees_and_changes_only_what_is_its_own(gateway: HeldGateway) -> None:
    with gateway.client("alice") as client:
        for path, statuses in READS.items():
            if path in ("/v1/live", "/v1/events"):
                continue
            for owner, status in zip(("alice", "bob"), statuses, strict=True):
                query = {"path": "x"} if path.endswith("content") else {}
                answer = client.get(filled(path, owner), params=query)
                assert answer.status_code == status, (path, owner, answer.text)
                if owner == "alice" and path not in NOT_MINE:
                    assert "bob" not in answer.text, path
                if status in (403, 404):
                    assert "work of" not in answer.text
        for path, statuses in ORDERS.items():
            for owner, status in zip(("alice", "bob"), statuses, strict=True):
                body = {"mode": "draining"} if path.endswith("mode") else None
                answer = client.post(filled(path, owner), json=body)
                assert answer.status_code == status, (path, owner, answer.text)
        for answer in (client.get("/v1/frameworks"), client.get("/v1/tasks"), client.get("/v1/state")):
            assert answer.json()["only_of"] == "alice"
        for name, value in (
            ("framework", OTHERS),
            ("framework", "work of bob"),
            ("user", "bob"),
            ("name", "bob"),
        ):
            assert client.get("/v1/tasks", params={name: value}).json()["tasks"] == []
    assert gateway.desk.master.orders == [("kill", "task-alice", MINE), ("end", MINE)]


def test_what_is_not_ones_own_looks_like_what_is_not_there(gateway: HeldGateway) -> None:
    with gateway.client("alice") as client:
        for path, (_, status) in READS.items():
            if status == 404:
                query = {"path": "x"} if path.endswith("content") else {}
                there = client.get(filled(path, "bob"), params=query).json()
                nothing = client.get(filled(path, "nobody"), params=query).json()
                assert there == json.loads(json.dumps(nothing).replace("nobody", "bob")), path


def test_ids_that_only_look_like_ones_own_are_not(gateway: HeldGateway) -> None:
    with gateway.client("alice") as client:
        for framework in (f"{OTHERS}@alice", "F-bob", "@bob", f"alice@{OTHERS}", "alice", OTHERS.upper()):
            answer = client.post(f"/v1/frameworks/{framework}/end")
            assert answer.status_code == 404, framework
    assert gateway.desk.master.orders == []


def test_streams_show_only_what_is_ones_own(gateway: HeldGateway) -> None:
    token = gateway.token("alice")
    with (
        EventStream(gateway.url, token, "/v1/live") as live,
        EventStream(gateway.url, token, "/v1/events") as events,
    ):
        live.wait(lambda event: event.data["is_first"])
        wait_until(lambda: gateway.streams.reader is not None, "events to be read")
        more = FrameworkNow(FrameworkID("F-2@bob"), "active", 99.0)
        tasks = {owner: a_task(owner, f"new-{owner}", 90.0) for owner in ("bob", "alice")}
        gateway.take(changes(tasks=[*tasks.values()], frameworks=[more]))
        gateway.take(changes(ended=[the_end(tasks["bob"], 95.0), the_end(tasks["alice"], 96.0)]))
        gateway.take(
            changes(forgotten_frameworks=[more.framework_id], forgotten_tasks=[(OTHERS, "task-bob", 50.0)])
        )
        live.wait(lambda event: any(bar[1] == "new-alice" and bar[5] for bar in event.data["bars"]))
        events.wait(lambda event: "new-alice" in str(event.data) and "FINISHED" in str(event.data))
        gateway.take(changes(tasks=[a_task("alice", "last", 97.0)]))
        live.wait(lambda event: any(bar[1] == "last" for bar in event.data["bars"]))
        events.wait(lambda event: "last" in str(event.data))
    assert "bob" not in str(live.events)
    assert "bob" not in str(events.events)


# -- rights that change -------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "FRESH_S", 0.05)
    monkeypatch.setattr(gate, "CHECK_S", 0.05)


def status(client: httpx.Client, path: str = "/metrics") -> int:
    return client.get(path).status_code


@pytest.mark.usefixtures("quick")
def test_rights_that_are_taken_back_are_gone(gateway: HeldGateway) -> None:
    with gateway.client("root") as client:
        assert status(client) == 200
        gateway.desk.keys["root"] = USER
        wait_until(lambda: status(client) == 403, "the rights to be gone")
        assert client.get("/v1/frameworks").json()["frameworks"] == []
        del gateway.desk.keys["root"]
        wait_until(lambda: status(client) == 401, "the key to be gone")
    with gateway.client("") as client:
        assert status(client) == 401, "a token of nobody has no rights where peers have keys"


def test_rights_are_not_asked_for_at_each_request(gateway: HeldGateway) -> None:
    with gateway.client("root") as client:
        for _ in range(50):
            assert status(client, "/v1/cluster") == 200
    assert gateway.desk.asked <= 3


@pytest.mark.usefixtures("quick")
def test_an_open_stream_ends_with_its_token_and_with_rights(gateway: HeldGateway) -> None:
    token = gateway.token("root")
    streams = {path: EventStream(gateway.url, token, path) for path in ("/v1/live", "/v1/events")}
    others = gateway.token("alice")
    kept = EventStream(gateway.url, others, "/v1/live")
    for each in (streams["/v1/live"], kept):
        each.wait(lambda event: event.data["is_first"])

    def stir(number: list[int]) -> bool:
        number[0] += 1
        gateway.take(changes(tasks=[a_task("alice", f"t{number[0]}", 60.0 + number[0])]))
        time.sleep(0.05)
        return all(stream.is_over for stream in streams.values())

    count = [0]
    assert not stir(count)
    gateway.tokens.revoke(token.split("_")[1])
    wait_until(lambda: stir(count), "the streams to end")
    assert not kept.is_over
    gateway.desk.keys["alice"] = OPERATOR
    wait_until(lambda: stir(count) and kept.is_over, "the stream with other rights to end")
    for stream in (*streams.values(), kept):
        stream.close()
    wait_until(lambda: gateway.streams.open == 0, "all to be counted out")


@pytest.mark.usefixtures("quick")
def test_while_no_master_answers_known_rights_count_for_a_while(
    gateway: HeldGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway.client("root") as client:
        assert status(client) == 200
        gateway.desk.is_away = True
        for _ in range(3):
            time.sleep(0.06)
            assert status(client) == 200
        assert status(client, f"/v1/frameworks/{MINE}/explanation") == 503
        monkeypatch.setattr(callers, "STALE_S", 0.1)
        wait_until(lambda: status(client) == 503, "the rights to be too old")
        assert client.get("/metrics").headers["retry-after"] == "2"
        gateway.desk.is_away = False
        assert status(client) == 200


def test_before_a_master_has_answered_nobody_gets_in(tmp_path: Path) -> None:
    with HeldGateway(tmp_path, {"root": OPERATOR}) as gateway:
        gateway.desk.is_away = True
        with gateway.client("root") as client, gateway.client(None) as stranger:
            assert status(client, "/v1/cluster") == 503
            assert status(stranger, "/v1/cluster") == 401
            gateway.desk.is_away = False
            assert status(client, "/v1/cluster") == 200
            assert client.get("/v1/cluster").json()["following"]["why"] == "no master has answered yet"
        gc.collect()
        assert gateway.faults == []
