"""Tokens for the slaves' files: what each opens, and what it does not."""

from __future__ import annotations

import msgspec
import pytest

from offerd.files_access import (
    NO_ACCESS,
    Claim,
    FilesAccess,
    access_to,
    data_path,
    is_true,
    parse_claim,
    scope_of,
    split_path,
)

SECRET, OTHER = b"s" * 32, b"o" * 32


def access(name: str = "alice", *, operator: bool = False, secret: bytes = SECRET) -> FilesAccess:
    return access_to(secret, 3, "10.0.0.1:5051", "ab" * 32, name, operator=operator)


def opens(header: str, path: str, secret: bytes = SECRET) -> bool:
    claim = parse_claim(header)
    return claim is not None and is_true(claim, secret, scope_of(split_path(path)))


def test_a_token_opens_its_own_scope_and_no_other() -> None:
    header = access().authorization("GET", "/containers/c1/tasks/t/stdout")
    assert opens(header, "/containers/c1/other")
    assert opens(header, "/containers/c1")
    for other in ("/containers/c2/tasks/t/stdout", "/containers", "/data/@alice/c1", "/statistics", "/"):
        assert not opens(header, other)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/containers/c1/a/b", "containers/c1"),
        ("/data/@alice/set/file", "data/@alice/set"),
        ("/data/@alice/set/", "data/@alice/set"),
        ("/data/@alice/", "data/@alice"),
        ("/data/", "data"),
        ("/statistics", "statistics"),
        ("/", ""),
    ],
)
def test_the_scope_of_a_path(path: str, scope: str) -> None:
    assert scope_of(split_path(path)) == scope


def test_a_token_of_another_secret_generation_owner_or_kind_is_not_true() -> None:
    header = access().authorization("GET", "/statistics")
    claim = parse_claim(header)
    assert claim == Claim(3, "r", "owner:alice", header.rpartition(" ")[2])
    assert is_true(claim, SECRET, "statistics")
    assert not is_true(claim, OTHER, "statistics")
    for changed in ({"identity": "owner:bob"}, {"identity": "operator:alice"}, {"access": "w"}, {"mac": "x"}):
        assert not is_true(claim._replace(**changed), SECRET, "statistics")  # type: ignore[arg-type]


def test_reading_and_writing_take_tokens_of_their_own() -> None:
    path = access().data_path("set", "file")
    reading, writing = (access().authorization(method, path) for method in ("GET", "PUT"))
    assert reading == access().authorization("HEAD", path)
    assert writing == access().authorization("DELETE", path)
    assert (reading.split(" ")[2], writing.split(" ")[2]) == ("r", "w")
    assert reading.split(" ")[4] != writing.split(" ")[4]


def test_what_a_task_is_given_holds_one_token_and_no_key() -> None:
    narrow = access().narrowed("/containers/c1")
    assert narrow.authorization("PUT", "/data/@alice/x/y") == access().authorization("GET", "/containers/c1")
    assert access().key.hex() not in msgspec.json.encode(narrow).decode()
    assert (narrow.address, narrow.fingerprint) == (access().address, access().fingerprint)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Offerd",
        "Basic 3 r owner:alice x",
        "Offerd 3 r owner:alice",
        "Offerd 3 r owner:alice x y",
        "Offerd 3 rw owner:alice x",
        "Offerd -3 r owner:alice x",
        "Offerd ³ r owner:alice x",
        "Offerd " + "9" * 5000 + " r owner:alice x",
        "Offerd 3 r alice x",
        "Offerd 3 r owner:alice ä",
        "Offerd 3 r owner:" + "a" * 600 + " x",
    ],
)
def test_an_invalid_header_is_not_a_token(header: str) -> None:
    assert parse_claim(header) is None


def test_without_access_there_is_no_token() -> None:
    assert NO_ACCESS.authorization("GET", "/statistics") == ""


def test_sets_of_each_owner_have_their_own_place() -> None:
    assert data_path("alice", "set", "file") == "/data/@alice/set/file"
    assert (data_path(""), data_path("bob", "set")) == ("/data/@", "/data/@bob/set")
