"""Tokens and enrolled keys as one master decides on them: each refusal, and the precedence of the file."""

from __future__ import annotations

from typing import Any

import pytest
import zmq

from offerd_master.core.registry import (
    MAX_TOKENS,
    MAX_TTL_S,
    Change,
    Contents,
    Enrolled,
    Refused,
    Registry,
)
from offerd_master.principals import Principal

OPS = Principal(name="ops", operator=True)
ROOT = Principal(name="root", operator=True, roles=("*",), users=("root",))
SLAVE = Principal(name="", slave=True)
NOW = 1000.0
ADMITTED = ("", "")


def new_key() -> str:
    return zmq.curve_keypair()[0].decode()


def token_of(registry: Registry, rights: Principal = SLAVE, **more: Any) -> str:
    """Make a token; returns its public key."""
    key = new_key()
    arguments: dict[str, Any] = {"ttl_s": 60.0, "uses": 1, "by": OPS, "now": NOW} | more
    _, change = registry.new_token(key, rights, **arguments)
    registry.apply(change)
    return key


def join(registry: Registry, token_key: str, name: str, key: str = "", now: float = NOW) -> str:
    """Enrol a key by this token; returns the key."""
    key = key or new_key()
    _, change = registry.enrol(registry.principals[token_key].token, name, key, now)
    if change is not None:
        registry.apply(change)
    return key


@pytest.fixture
def registry() -> Registry:
    return Registry({new_key(): OPS, new_key(): ROOT})


def test_a_token_lets_in_for_joining_and_for_nothing_else(registry: Registry) -> None:
    token = token_of(registry)
    assert registry.refusal(token, NOW) == ADMITTED
    who = registry.principals[token]
    assert (who.token != "", who.slave, who.operator, who.roles) == (True, False, False, ())
    assert who.name not in registry.by_name


def test_a_joining_peer_has_the_tokens_rights_under_its_own_name(registry: Registry) -> None:
    key = join(registry, token_of(registry), "host7")
    assert registry.principals[key] == Principal(name="host7", slave=True)
    assert registry.refusal(key, NOW) == ADMITTED
    assert registry.enrolled["host7"].by == "ops"


def test_a_used_token_is_refused(registry: Registry) -> None:
    token = token_of(registry)
    join(registry, token, "host7")
    assert registry.refusal(token, NOW) == ("used", "the token that it joins with has been used")
    # A peer that is already connected is refused by its message.
    with pytest.raises(Refused, match="has been used") as caught:
        registry.enrol("gone", "host8", new_key(), NOW)
    assert caught.value.cause == "used"


def test_an_expired_token_is_refused(registry: Registry) -> None:
    token = token_of(registry)
    assert registry.refusal(token, NOW + 59.9) == ADMITTED
    assert registry.refusal(token, NOW + 60) == ("late", "the token that it joins with is too old")
    with pytest.raises(Refused, match="too old") as caught:
        registry.enrol(registry.principals[token].token, "host7", new_key(), NOW + 60)
    assert caught.value.cause == "late"
    token_of(registry, now=NOW + 61)  # this forgets expired tokens
    assert registry.refusal(token, NOW + 62) == ("late", "the token that it joins with is too old")
    assert [good.key for good in registry.good_tokens(NOW + 62)] != [token]


def test_an_altered_token_is_refused(registry: Registry) -> None:
    token_of(registry)
    other = new_key()
    assert registry.refusal(other, NOW) == ("unknown_key", f"nobody here has its key {other}")


def test_a_revoked_token_is_refused(registry: Registry) -> None:
    token = token_of(registry)
    registry.apply(registry.revoke_token(registry.principals[token].token))
    cause, why = registry.refusal(token, NOW)
    assert (cause, "has been revoked" in why) == ("revoked", True)
    with pytest.raises(Refused, match="no token"):
        registry.revoke_token("nonsense")


@pytest.mark.parametrize("name", ["ops", "host7"])
def test_a_name_that_is_taken_is_refused(registry: Registry, name: str) -> None:
    token = token_of(registry, uses=3)
    join(registry, token, "host7")
    with pytest.raises(Refused, match=f"the name {name} is taken; choose another name, or") as caught:
        join(registry, token, name)
    assert caught.value.cause == "name_taken"


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 41, "a@b", "../x", "a\n"])
def test_an_invalid_name_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(Refused, match="is not a valid name"):
        join(registry, token_of(registry), name)


@pytest.mark.parametrize("key", ["", "x", "x" * 41, '"' * 40, "\n" * 40])
def test_an_invalid_key_is_refused(registry: Registry, key: str) -> None:
    token = token_of(registry)
    with pytest.raises(Refused, match="is not a public key"):
        registry.enrol(registry.principals[token].token, "host7", key, NOW)


def test_the_key_of_another_or_of_a_token_is_refused(registry: Registry) -> None:
    token = token_of(registry, uses=5)
    mine = join(registry, token, "host7")
    for key in (mine, token, next(iter(registry.file))):
        with pytest.raises(Refused, match="belongs to another name"):
            join(registry, token, "host8", key)


def test_a_repeated_request_after_a_lost_answer_is_not_another_use(registry: Registry) -> None:
    token = token_of(registry, uses=2)
    key = join(registry, token, "host7")
    assert join(registry, token, "host7", key) == key
    (left,) = registry.good_tokens(NOW)
    assert left.uses_left == 1


def test_a_token_of_several_uses_can_be_used_that_often(registry: Registry) -> None:
    token = token_of(registry, uses=2)
    first = join(registry, token, "host1")
    second = join(registry, token, "host2")
    assert {registry.principals[first].name, registry.principals[second].name} == {"host1", "host2"}
    assert registry.refusal(token, NOW) == ("used", "the token that it joins with has been used")


@pytest.mark.parametrize(
    ("rights", "more", "token"),
    [
        (Principal(name=""), {}, "for a slave, an operator or frameworks"),
        (SLAVE, {"ttl_s": 0.0}, "good for up to"),
        (SLAVE, {"ttl_s": MAX_TTL_S + 1}, "good for up to"),
        (SLAVE, {"ttl_s": float("nan")}, "good for up to"),
        (Principal(name="", roles=("*",), users=("root",)), {}, "only by an operator who may run as root"),
        (
            Principal(name="", roles=("*",), users=("alice", "root")),
            {},
            "only by an operator who may run as root",
        ),
    ],
)
def test_what_cannot_be_granted_is_refused(
    registry: Registry, rights: Principal, more: dict[str, Any], token: str
) -> None:
    with pytest.raises(Refused, match=token):
        token_of(registry, rights, **more)


def test_root_is_granted_only_by_operators_who_may_run_as_root(registry: Registry) -> None:
    token = token_of(registry, Principal(name="", roles=("*",), users=("root",)), by=ROOT)
    assert registry.refusal(token, NOW) == ADMITTED


def test_a_tokens_key_must_be_one_that_nobody_has(registry: Registry) -> None:
    taken = next(iter(registry.file))
    for key in (taken, "nonsense"):
        with pytest.raises(Refused, match="nobody has yet"):
            registry.new_token(key, SLAVE, 60.0, 1, OPS, NOW)


def test_the_number_of_tokens_is_bounded_until_some_expire(registry: Registry) -> None:
    for _ in range(MAX_TOKENS):
        token_of(registry)
    with pytest.raises(Refused, match="tokens already"):
        token_of(registry)
    token_of(registry, now=NOW + 100)
    assert len(registry.good_tokens(NOW + 100)) == 1


def test_a_revoked_key_is_gone_and_its_name_may_be_had_again(registry: Registry) -> None:
    key = join(registry, token_of(registry), "host7")
    assert registry.apply(registry.revoke_key("host7")) == {key}
    assert registry.refusal(key, NOW) != ADMITTED
    assert "host7" not in registry.by_name
    assert join(registry, token_of(registry), "host7") != key


def test_a_key_of_the_file_is_not_revoked_here(registry: Registry) -> None:
    with pytest.raises(Refused, match="remove it there, and send the master SIGHUP"):
        registry.revoke_key("ops")
    with pytest.raises(Refused, match="no key has joined as nonsense; see `offerd keys list`"):
        registry.revoke_key("nonsense")


def test_the_file_takes_precedence_over_enrolled_keys(registry: Registry) -> None:
    key = join(registry, token_of(registry), "host7")
    in_file = {new_key(): Principal(name="host7", operator=True)}
    assert registry.set_file(in_file) >= {key}
    assert registry.by_name["host7"].operator
    assert "the --authorized file counts for host7" in registry.shadows()
    registry.apply(registry.revoke_key("host7"))  # the enrolled one; then only the file has it
    assert registry.shadows() == ""
    assert registry.by_name["host7"].operator


def test_the_same_key_under_another_name_in_the_file_counts(registry: Registry) -> None:
    key = join(registry, token_of(registry), "host7")
    assert key not in registry.set_file({key: Principal(name="other", slave=True)})
    assert registry.principals[key].name == "other"
    assert "host7" in registry.shadows()


def test_what_another_master_has_written_counts_at_once(registry: Registry) -> None:
    key = new_key()
    enrolled = Enrolled(key, Principal(name="host9", slave=True), "ops")
    assert registry.take(Contents({"host9": enrolled})) == frozenset()
    assert registry.refusal(key, NOW) == ADMITTED
    assert registry.take(Contents()) == {key}
    assert registry.refusal(key, NOW) != ADMITTED


def test_a_registry_goes_on_from_another_and_leaves_that_one_as_it_was(registry: Registry) -> None:
    key, token = join(registry, token_of(registry), "host7"), token_of(registry)
    late = {"late": 2}
    without = registry.but(contents=Contents(), refused=late)
    assert [without.refusal(each, NOW)[0] for each in (key, token)] == ["revoked", "revoked"]
    assert registry.refusal(key, NOW) == registry.refusal(token, NOW) == ADMITTED
    later = without.but(file={key: Principal(name="host7", slave=True)}, refused=late)
    assert later.refusal(key, NOW) == ADMITTED
    assert later.refusal(token, NOW)[0] == "revoked"
    assert (registry.refused, later.refused) == ({}, {"late": 4})


def test_a_key_that_comes_back_is_let_in_again(registry: Registry) -> None:
    key = join(registry, token_of(registry), "host7")
    enrolled = registry.enrolled["host7"]
    registry.apply(Change(keys={"host7": None}))
    registry.apply(Change(keys={"host7": enrolled}))
    assert registry.refusal(key, NOW) == ADMITTED
