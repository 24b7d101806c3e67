"""Web tokens: whom they let in, until when, and what becomes of a file that others have touched."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.gateway import HeldGateway
from offerd.errors import BadInput
from offerd_web.services.web_tokens import FILE, MAX_TOKENS, WebTokens

NOW = 1_790_000_000.0


@pytest.fixture
def tokens(tmp_path: Path) -> WebTokens:
    return WebTokens(tmp_path)


def test_a_token_is_good_until_it_expires(tokens: WebTokens) -> None:
    text = tokens.make("alice", NOW, 10.0)
    found = tokens.find(text, NOW + 9.9)
    assert found is not None
    assert found.owner == "alice"
    assert tokens.find(text, NOW + 10.0) is None
    for_ever = tokens.make("alice", NOW, None)
    assert tokens.find(for_ever, NOW + 1e9) is not None


def test_only_the_whole_secret_opens(tokens: WebTokens) -> None:
    text = tokens.make("alice", NOW, None)
    (kept,) = tokens.known()
    wrong = [
        "",
        "ow_",
        kept.token_id,
        kept.digest,
        f"ow_{kept.token_id}",
        text[:-1],
        text + "x",
        text.upper(),
        text + "\0",
        text + "é",
        "x" * 10_000,
    ]
    assert [each for each in wrong if tokens.find(each, NOW) is not None] == []


def test_the_file_holds_no_secret_and_is_for_its_owner_alone(tokens: WebTokens, tmp_path: Path) -> None:
    text = tokens.make("alice", NOW, None)
    for path in tmp_path.iterdir():
        assert text.rpartition("_")[2] not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_revoked_token_opens_nothing_in_a_gateway_that_runs(tokens: WebTokens, tmp_path: Path) -> None:
    first, second, other = (tokens.make(owner, NOW, None) for owner in ("alice", "alice", "bob"))
    assert tokens.find(first, NOW) is not None
    elsewhere = WebTokens(tmp_path)
    elsewhere.revoke(first.split("_")[1])
    assert tokens.find(first, NOW) is None
    assert tokens.find(second, NOW) is not None
    elsewhere.revoke("alice")
    assert tokens.find(second, NOW) is None
    assert tokens.find(other, NOW) is not None
    with pytest.raises(BadInput, match="no web token alice"):
        elsewhere.revoke("alice")
    (tmp_path / FILE).unlink()
    assert tokens.find(other, NOW) is None, "without the file nobody gets in"


def test_there_is_an_end_to_tokens_and_expired_ones_make_room(tmp_path: Path) -> None:
    one = {"token_id": "x", "digest": "", "owner": "a", "made_at": NOW, "expires_at": NOW + 5}
    path = tmp_path / FILE
    path.write_text(json.dumps({"tokens": [{**one, "digest": str(number)} for number in range(MAX_TOKENS)]}))
    path.chmod(0o600)
    tokens = WebTokens(tmp_path)
    with pytest.raises(BadInput, match="revoke some"):
        tokens.make("alice", NOW, None)
    tokens.make("alice", NOW + 5, None)
    assert len(tokens.known()) == 1


DAMAGED = [b"", b"{", b"[]", b"null", b'{"tokens": [{}]}', b'{"tokens": 1}', b"\xff\xfe\x00", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_lets_nobody_in_and_heals(tmp_path: Path, content: bytes) -> None:
    with HeldGateway(tmp_path) as gateway:
        text = gateway.token()
        path = tmp_path / FILE
        good = path.read_bytes()
        path.write_bytes(content)
        with gateway.client(None) as client:
            headers = {"Authorization": f"Bearer {text}"}
            answer = client.get("/v1/cluster", headers=headers)
            assert answer.status_code == 503, answer.text
            assert str(tmp_path) not in answer.text, "a stranger learns no path"
            assert client.get("/v1/cluster").status_code == 401, "without a token nothing is looked up"
            with pytest.raises(BadInput, match="damaged"):
                gateway.token()
            assert path.read_bytes() == content, "it is not overwritten"
            path.write_bytes(good)
            assert client.get("/v1/cluster", headers=headers).status_code == 200
        assert gateway.faults == []


@pytest.mark.parametrize(
    ("of_file", "of_directory"), [(0o620, 0o700), (0o602, 0o700), (0o640, 0o700), (0o600, 0o777)]
)
def test_what_others_can_write_or_read_is_not_believed(
    tmp_path: Path, of_file: int, of_directory: int
) -> None:
    directory = tmp_path / "web"
    directory.mkdir(mode=0o700)
    with HeldGateway(directory) as gateway:
        text = gateway.token()
        (directory / FILE).chmod(of_file)
        directory.chmod(of_directory)
        os.utime(directory / FILE)
        with gateway.client(None) as client:
            assert client.get("/v1/cluster", headers={"Authorization": f"Bearer {text}"}).status_code == 503


def test_what_is_no_file_lets_nobody_in(tmp_path: Path) -> None:
    with HeldGateway(tmp_path) as gateway, gateway.client() as client:
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).mkdir()
        assert client.get("/v1/cluster").status_code == 503
        assert gateway.faults == []


MAKE = """
import pathlib, sys
from offerd_web.services.web_tokens import WebTokens
tokens = WebTokens(pathlib.Path(sys.argv[1]))
for _ in range(10):
    tokens.make(sys.argv[2], 1.0, None)
"""


def test_changes_of_several_processes_do_not_lose_each_other(tokens: WebTokens, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path), f"owner{number}"]) for number in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(tokens.known()) == 40
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".lock"]
