"""The gateway's door: who gets in, what a browser may be made to send, and what everybody else hears."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from helpers.cli import wait_until
from helpers.gateway import HeldGateway, a_task, changes, framework_of, two_owners
from offerd.protocol.key_messages import Rights
from offerd_web.api import gate, timely_protocol

KEYS = {"root": Rights(operator=True), "alice": Rights(roles=["*"]), "bob": Rights(roles=["*"])}
OWN_HEADERS = {
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "cache-control",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldGateway]:
    with HeldGateway(tmp_path_factory.mktemp("web"), KEYS) as gateway:
        gateway.take(two_owners())
        yield gateway
        assert gateway.faults == []


def problem(answer: httpx.Response, status: int) -> str:
    """What a problem document (RFC 9457) of this status says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["type"] == "about:blank"
    detail: str = document["detail"]
    assert detail
    assert "\n" not in detail
    assert set(answer.headers) >= OWN_HEADERS
    return detail


def raw(gateway: HeldGateway, request: bytes) -> bytes:
    """The whole answer to these bytes, up to where the gateway hangs up."""
    with gateway.socket() as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def cookie_of(gateway: HeldGateway, owner: str = "root") -> tuple[str, str]:
    """The name and value of the cookie that the printed address sets."""
    with gateway.client(None) as client:
        answer = client.get("/", params={"token": gateway.token(owner)})
    name, _, rest = answer.headers["set-cookie"].partition("=")
    return name, rest.partition(";")[0]


# -- who ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/v1/cluster", "/v1/state", "/metrics", "/v1/openapi.json", "/page/x", "/nothing", "/v1/live"]
)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ow_wrong", "Basic cm9vdDpyb290", "ow_x"]
)
def test_nobody_gets_in_without_a_token(gateway: HeldGateway, path: str, authorization: str | None) -> None:
    with gateway.client(None) as client:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = client.get(path, headers=headers)
    assert "offerd web token new" in problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_without_a_token_is_shown_what_to_open(gateway: HeldGateway) -> None:
    with gateway.client(None) as client:
        answer = client.get("/")
    assert answer.status_code == 401
    assert "offerd web token new" in answer.text
    assert set(answer.headers) >= OWN_HEADERS


def test_the_printed_address_sets_a_cookie_that_only_this_site_is_sent(gateway: HeldGateway) -> None:
    token = gateway.token("root")
    with gateway.client(None) as client:
        answer = client.get("/", params={"token": token})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/", "the token does not stay in the address"
        parts = [part.strip() for part in answer.headers["set-cookie"].split(";")]
        assert parts[0] == f"offerd_token_{gateway.port}={token}"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(parts)
        wrong = client.get("/", params={"token": token + "x"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (303, False)
        crafted = client.get("/", params={"token": "ow_a; Domain=evil\r\nX-Evil: 1"})
        assert (crafted.status_code, "set-cookie" in crafted.headers) == (303, False)
        assert "x-evil" not in crafted.headers


def test_a_cookie_counts_beside_those_of_other_servers_of_this_host(gateway: HeldGateway) -> None:
    name, value = cookie_of(gateway)
    others = 'a[b]=1; "x; offerd_token=other; offerd_token_1=ow_of_another_gateway'
    with gateway.client(None) as client:
        for text in (f"{name}={value}", f"{others}; {name}={value}", f"{name}={value}; {others}"):
            assert client.get("/v1/cluster", headers={"Cookie": text}).status_code == 200, text
        for text in (others, f"x{name}={value}", name, f"{name}=", "=" * 1000, ";" * 1000):
            problem(client.get("/v1/cluster", headers={"Cookie": text}), 401)


def test_a_wrong_authorization_is_not_saved_by_a_cookie(gateway: HeldGateway) -> None:
    name, value = cookie_of(gateway)
    with gateway.client(None) as client:
        headers = {"Cookie": f"{name}={value}", "Authorization": "Bearer ow_wrong"}
        problem(client.get("/v1/cluster", headers=headers), 401)


# -- which host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example:{port}",
        "evil.example:127.0.0.1",
        "127.0.0.2:{port}",
        "0:{port}",
        "2130706433:{port}",
        "[::2]:{port}",
        "[",
        "]",
        "[]",
        "",
        ":",
        ":{port}",
        "localhost:1:2",
        "localhost.",
        "local\u017fhost",
        "127.0.0.1@evil.example",
    ],
)
def test_a_name_that_leads_here_by_dns_rebinding_is_refused(gateway: HeldGateway, host: str) -> None:
    with gateway.client("root") as client:
        name = host.format(port=gateway.port).encode()
        for path in ("/v1/cluster", "/", "/?token=ow_x"):
            problem(client.get(path, headers={b"Host": name}), 421)


@pytest.mark.parametrize("host", ["localhost", "LocalHost:{port}", "127.0.0.1", "127.0.0.1:1"])
def test_own_names_are_taken_with_any_port(gateway: HeldGateway, host: str) -> None:
    with gateway.client("root") as client:
        assert client.get("/v1/cluster", headers={"Host": host.format(port=gateway.port)}).status_code == 200


# -- from where ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "{own}.evil.example"}, False),
        ({"Origin": "{own}", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "{own}", "Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": "{own}"}, True),
        ({"Origin": "{own}", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_a_browser_changes_nothing_that_another_site_makes_it_send(
    gateway: HeldGateway, headers: dict[str, str], is_let_in: bool
) -> None:
    name, value = cookie_of(gateway)
    sent = {each: text.format(own=gateway.url) for each, text in headers.items()}
    before = len(gateway.desk.master.orders)
    with gateway.client(None) as client:
        path = f"/v1/frameworks/{framework_of('bob')}/end"
        answer = client.post(path, headers={"Cookie": f"{name}={value}", **sent})
    if is_let_in:
        assert answer.status_code == 200, answer.text
    else:
        problem(answer, 403)
    assert len(gateway.desk.master.orders) == before + is_let_in


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
@pytest.mark.parametrize("path", ["/v1/cluster", "/v1/live", "/metrics"])
def test_another_site_reads_nothing(gateway: HeldGateway, path: str, headers: dict[str, str]) -> None:
    name, value = cookie_of(gateway)
    with gateway.client("root") as client:
        problem(client.get(path, headers=headers), 403)
    with gateway.client(None) as client:
        answer = client.get(path, headers={"Cookie": f"{name}={value}", **headers})
        problem(answer, 403)
        asked = {"Access-Control-Request-Method": "POST", "Origin": "http://evil.example"}
        answer = client.options(path, headers=asked)
    assert answer.status_code in (401, 403)
    assert not [each for each in answer.headers if each.startswith("access-control")]


# -- what is asked ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/page/../gateway.py",
        "/page/%2e%2e/gateway.py",
        "/page/..%2fgateway.py",
        "/page/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/page//etc/passwd",
        "/page/%00",
        "/page/",
        "/page/index.html%00.js",
        "/v1/%2e%2e/metrics2",
        "/v1/slaves/%2e%2e",
        "/v1/slaves/..%2f..%2fcluster",
        "/v1/frameworks/a%2fb/explanation",
        "/v1/frameworks/%00",
        "/v1/frameworks/%ff",
        "/%",
        "/v1/slaves/%0d%0aX-Evil:%201",
        "/v1/frameworks/" + "x" * 301,
        "/v1/frameworks/" + "%20" * 400,
    ],
)
def test_no_path_leads_out_or_breaks_anything(gateway: HeldGateway, path: str) -> None:
    """httpx would tidy these paths up."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {gateway.token('root')}\r\n\r\n"
    answer = raw(gateway, head.encode())
    status, _, rest = answer.partition(b"\r\n")
    assert status.split()[1] in (b"400", b"404"), answer
    assert b"x-evil" not in rest.partition(b"\r\n\r\n")[0].lower()
    assert b'"detail":' in rest


def test_answers_do_not_wait_for_acknowledgements(gateway: HeldGateway) -> None:
    """With Nagle's algorithm the second part of each answer came 40 ms later."""
    with gateway.socket() as ours:

        def theirs() -> list[int]:
            protocols = gateway.server.server_state.connections
            found = [each.transport.get_extra_info("socket") for each in protocols]
            return [
                each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                for each in found
                if each.getpeername() == ours.getsockname()
            ]

        wait_until(lambda: gateway.do(theirs), "the connection")
        assert gateway.do(theirs) == [1]


def test_a_head_that_is_too_large_is_refused(gateway: HeldGateway) -> None:
    line = b"X: " + b"x" * 1000 + b"\r\n"
    answer = raw(gateway, b"GET /v1/cluster HTTP/1.1\r\nHost: localhost\r\n" + line * 100)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    for nonsense in (
        b"\x16\x03\x01" * 100 + b"\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /v1/cluster HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ):
        assert raw(gateway, nonsense).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(gateway: HeldGateway, is_chunked: bool) -> None:
    body = b'{"mode": "active", "x": "' + b"x" * gate.MAX_BODY_BYTES + b'"}'
    pieces = iter([body[:1000], body[1000:]])
    with gateway.client("root") as client:
        answer = client.post("/v1/slaves/S1/mode", content=pieces if is_chunked else body)
    problem(answer, 413)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"x"', 400),
        (b"\xff\xfe", 400),
        (b"[" * 10_000, 400),
        (b'{"mode": "lost"}', 400),
        (b'{"mode": "active", "force": true}', 400),
        (b'{"mode": "draining", "deadline_s": -1}', 400),
        (b'{"mode": "draining", "deadline_s": 1e999}', 400),
        (b'{"mode": "draining", "deadline_s": NaN}', 400),
        (b'{"mode": "draining", "deadline_s": 1}', 200),
    ],
)
def test_a_wrong_body_is_refused_in_one_line(gateway: HeldGateway, body: bytes, status: int) -> None:
    before = len(gateway.desk.master.orders)
    with gateway.client("root") as client:
        answer = client.post("/v1/slaves/S1/mode", content=body, headers={"Content-Type": "application/json"})
    if status == 200:
        assert gateway.desk.master.orders[-1] == ("mode", "S1", "draining", 1.0)
    else:
        problem(answer, status)
        assert len(gateway.desk.master.orders) == before


def test_script_in_names_is_text_in_every_answer(gateway: HeldGateway) -> None:
    script = "</script><script>alert(1)</script>\u2028\x1b[31m"
    gateway.take(changes(tasks=[a_task("bob", "evil", name=script)]))
    with gateway.client("root") as client:
        answer = client.get("/v1/tasks", params={"name": "evil"})
        assert [task["name"] for task in answer.json()["tasks"]] == [script]
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "\x1b" not in answer.text
        for path in (f"/v1/frameworks/{script}", f"/v1/slaves/{script}", f"/page/{script}", f"/{script}"):
            answer = client.get(path.replace("/script", "%2Fscript").replace("\x1b", "%1b"))
            detail = problem(answer, 404)
            assert "\x1b" not in detail
    gateway.take(changes(forgotten_tasks=[(framework_of("bob"), "evil", 50.0)]))


def test_every_answer_has_the_headers(gateway: HeldGateway) -> None:
    with gateway.client("root") as client:
        for path in ("/", "/v1/cluster", "/metrics", "/v1/openapi.json", "/v1/nothing", "/v1/tasks?limit=0"):
            answer = client.get(path)
            assert set(answer.headers) >= OWN_HEADERS, path
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            assert answer.headers["cache-control"] in ("no-store", "no-cache")
            assert "server" not in answer.headers
        assert client.delete("/v1/cluster").status_code == 405


# -- how slowly ---------------------------------------------------------------------------------------------------------

HEAD = b"GET /v1/cluster HTTP/1.1\r\nHost: localhost\r\n"
REFUSED = b"GET /v1/cluster HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""An answer comes to it, and the connection stays."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths."""
    monkeypatch.setattr(timely_protocol, "LOOK_S", 0.05)
    monkeypatch.setattr(timely_protocol, "REQUEST_S", 0.5)
    monkeypatch.setattr(timely_protocol, "TAKE_S", 0.5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET",
        HEAD,
        REFUSED + b"G",
        REFUSED * 3 + HEAD,
        b"POST /v1/cluster HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
        b"POST /v1/cluster HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    ],
)
def test_a_client_that_goes_on_too_slowly_is_hung_up_on(gateway: HeldGateway, beginning: bytes) -> None:
    """It sends a byte now and then, and never the whole of a request."""
    with gateway.socket() as connection:
        connection.sendall(beginning)
        connection.settimeout(0.05)
        give_up_at = time.monotonic() + 20
        while True:
            assert time.monotonic() < give_up_at, "it may go on for ever"
            try:
                if beginning:
                    connection.sendall(b"1")
                if not connection.recv(1 << 16):
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break
    with gateway.client("root") as client:
        assert client.get("/v1/cluster").status_code == 200


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["/v1/state", "/v1/live"])
def test_a_client_that_reads_no_more_is_hung_up_on(gateway: HeldGateway, path: str) -> None:
    gateway.take(changes(tasks=[a_task("bob", f"t{number}", name="x" * 1000) for number in range(900)]))
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", gateway.port))
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.token('root')}\r\n\r\n"
    with connection:
        connection.sendall(head.encode() * 50)
        wait_until(
            lambda: gateway.do(lambda: len(gateway.server.server_state.connections)) > 0, "the request"
        )
        give_up_at = time.monotonic() + 30
        while gateway.do(lambda: len(gateway.server.server_state.connections)):
            assert time.monotonic() < give_up_at, "it is kept"
            # The kernel takes a few megabytes of what the client does not read.
            gateway.take(
                changes(tasks=[a_task("bob", f"t{number}", name="x" * 1000) for number in range(450)])
            )
    wait_until(lambda: gateway.streams.open == 0, "the stream to end")
    gone = [(framework_of("bob"), f"t{number}", 50.0) for number in range(900)]
    gateway.take(changes(forgotten_tasks=gone))


@pytest.mark.usefixtures("quick")
def test_a_slow_client_that_does_read_gets_everything(gateway: HeldGateway) -> None:
    gateway.take(changes(tasks=[a_task("bob", f"t{number}", name="x" * 1000) for number in range(900)]))
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", gateway.port))
    head = "GET /v1/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    got = b""
    with connection:
        connection.sendall(f"{head}Authorization: Bearer {gateway.token('root')}\r\n\r\n".encode())
        while piece := connection.recv(1 << 14):
            got += piece
            time.sleep(0.01)
    assert len(json.loads(got.partition(b"\r\n\r\n")[2])["tasks"]) >= 900
    gone = [(framework_of("bob"), f"t{number}", 50.0) for number in range(900)]
    gateway.take(changes(forgotten_tasks=gone))


def test_more_connections_than_there_is_room_for_are_refused_and_others_go_on(
    gateway: HeldGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.config, "limit_concurrency", 5)
    monkeypatch.setattr(timely_protocol, "MORE_CONNECTIONS", 5)
    sockets = [gateway.socket() for _ in range(20)]
    try:
        wait_until(
            lambda: gateway.do(lambda: len(gateway.server.server_state.connections)) == 10, "ten are kept"
        )
        sockets[0].sendall(REFUSED)
        assert sockets[0].recv(1 << 16).startswith(b"HTTP/1.1 503")
    finally:
        for each in sockets:
            each.close()
    wait_until(lambda: not gateway.do(lambda: len(gateway.server.server_state.connections)), "room")
    with gateway.client("root") as client:
        assert client.get("/v1/cluster").status_code == 200
