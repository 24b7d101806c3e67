"""The secrets behind files tokens: how long a token is good, and for whom."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from offerd.files_access import Claim, access_to, parse_claim
from offerd_slave import files_secrets
from offerd_slave.files_secrets import FILE, ROTATE_S, FilesSecrets

BOOT, NOW = "boot-1", 1000.0


def secrets_in(path: Path, boot_id: str = BOOT, now: float = NOW) -> FilesSecrets:
    return FilesSecrets(path, boot_id, now)


def token(secrets: FilesSecrets, name: str = "alice", *, operator: bool = False) -> Claim:
    """A token made from the access that the master would give now."""
    current = secrets.current
    access = access_to(current.secret, current.generation, "h:1", "", name, operator=operator)
    claim = parse_claim(access.authorization("GET", "/statistics"))
    assert claim is not None
    return claim


def test_the_secret_is_for_the_slave_alone_and_a_restart_keeps_it(tmp_path: Path) -> None:
    before = secrets_in(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert secrets_in(tmp_path, now=NOW + 5).current == before.current


def test_a_token_is_good_until_its_generations_successor_is_as_old_as_a_generation_gets(
    tmp_path: Path,
) -> None:
    secrets = secrets_in(tmp_path)
    held = token(secrets)
    assert secrets.rotate_at == NOW + ROTATE_S
    secrets.rotate(NOW + ROTATE_S)
    assert secrets.current.generation == 2
    assert secrets.is_good(held, "statistics")
    assert secrets.is_good(token(secrets), "statistics")
    again = secrets_in(tmp_path, now=NOW + ROTATE_S + 1)
    assert again.is_good(held, "statistics")
    again.rotate(NOW + 2 * ROTATE_S)
    assert not again.is_good(held, "statistics")


def test_after_a_boot_old_tokens_are_invalid_and_numbers_continue(tmp_path: Path) -> None:
    before = secrets_in(tmp_path)
    held = token(before)
    after = secrets_in(tmp_path, boot_id="boot-2", now=3.0)
    assert not after.is_good(held, "statistics")
    assert (after.current.generation, after.rotate_at) == (before.current.generation + 1, 3.0 + ROTATE_S)


def test_a_refused_owners_tokens_are_refused_at_once_and_its_later_ones_are_good(
    tmp_path: Path,
) -> None:
    secrets = secrets_in(tmp_path)
    alice, bob = token(secrets), token(secrets, "bob")
    assert secrets.refuse({"alice": 7}, NOW + 1)
    assert not secrets.is_good(alice, "statistics")
    assert secrets.is_good(bob, "statistics")
    assert secrets.is_good(token(secrets, "alice"), "statistics")
    again = secrets_in(tmp_path, now=NOW + 2)
    assert not again.is_good(alice, "statistics")
    assert secrets.is_good(token(again, "alice"), "statistics")


def test_a_repeated_refusal_changes_nothing(tmp_path: Path) -> None:
    secrets = secrets_in(tmp_path)
    secrets.refuse({"alice": 7}, NOW)
    held = token(secrets)
    assert not secrets.refuse({"alice": 7}, NOW)
    assert not secrets_in(tmp_path).refuse({"alice": 7}, NOW)
    assert secrets.is_good(held, "statistics")
    assert secrets.refuse({"alice": 8}, NOW)
    assert not secrets.is_good(held, "statistics")


def test_very_many_refusals_keep_the_file_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_secrets, "MAX_REFUSALS", 10)
    secrets = secrets_in(tmp_path)
    for number in range(100):
        secrets.refuse({f"owner{number}": number}, NOW)
    assert (tmp_path / FILE).stat().st_size < 10_000
    assert secrets.current.generation == 101


def test_an_operators_token_is_refused_by_name_too(tmp_path: Path) -> None:
    secrets = secrets_in(tmp_path)
    held = token(secrets, "ops", operator=True)
    assert secrets.is_good(held, "statistics")
    secrets.refuse({"ops": 1}, NOW)
    assert not secrets.is_good(held, "statistics")


def test_a_damaged_secrets_file_is_set_aside_and_reported(tmp_path: Path) -> None:
    held = token(secrets_in(tmp_path))
    (tmp_path / FILE).write_bytes(b"nonsense")
    again = secrets_in(tmp_path)
    assert "lost" in again.complaint
    assert not again.is_good(held, "statistics")
    assert again.is_good(token(again), "statistics")
    assert [path.name for path in (tmp_path / "quarantine").iterdir()] != []


def test_a_disk_that_refuses_leaves_the_old_secret_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = secrets_in(tmp_path)
    before = secrets.current

    def full(path: Path, struct: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_secrets, "write_checkpoint", full)
    with pytest.raises(OSError, match="No space"):
        secrets.rotate(NOW + ROTATE_S)
    assert secrets.current == before
