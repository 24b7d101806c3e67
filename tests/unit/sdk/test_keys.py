"""Keys on disk and in the environment: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from offerd.errors import BadInput
from offerd.keys import (
    KEY_VARIABLE,
    MASTER_KEY_VARIABLE,
    Keys,
    is_public_key,
    keys_of_environment,
    new_key,
    public_of,
    read_public,
    read_secret,
)


def test_a_new_pair_belongs_together_and_only_its_owner_may_read_the_secret(tmp_path: Path) -> None:
    secret, public = new_key("alice", tmp_path)
    assert (secret.name, public.name) == ("alice.key", "alice.pub")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert public_of(read_secret(secret)) == read_public(str(public))
    assert read_public(read_public(str(public))) == read_public(str(public))
    assert read_secret(secret) not in public.read_text()


def test_no_two_pairs_are_the_same(tmp_path: Path) -> None:
    secrets = {read_secret(new_key(name, tmp_path)[0]) for name in "abc"}
    assert len(secrets) == 3


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    secret, _ = new_key("alice", tmp_path)
    before = secret.read_bytes()
    with pytest.raises(BadInput, match="File exists"):
        new_key("alice", tmp_path)
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../alice", "a/b", "a b", ".alice", "al@ice", "a" * 41, "a\n", "ä"])
def test_a_name_that_would_not_fit_into_ids_and_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is no name"):
        new_key(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    secret, _ = new_key("alice", tmp_path)
    secret.chmod(mode)
    with pytest.raises(BadInput, match=f"chmod 600 {secret}"):
        read_secret(secret)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"secret = 5", b'secret = "short"', b"secret = ", b'public = "x"', b"\0" * 9000],
)
def test_garbage_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    for read in (read_secret, lambda file: read_public(str(file))):
        with pytest.raises(BadInput, match="holds no") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_the_public_file_is_no_secret_and_the_secret_one_no_public(tmp_path: Path) -> None:
    secret, public = new_key("alice", tmp_path)
    public.chmod(0o600)
    with pytest.raises(BadInput, match="holds no secret key"):
        read_secret(public)
    with pytest.raises(BadInput, match="holds no public key"):
        read_public(str(secret))


@pytest.mark.parametrize("text", ["", "nothing here", "x" * 39, "x" * 41, "x" * 39 + '"', "a\0b"])
def test_what_is_neither_a_key_nor_a_file_is_refused(text: str) -> None:
    assert not is_public_key(text)
    with pytest.raises(BadInput, match="is no public key"):
        read_public(text)


def test_the_environment_names_both_keys_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(MASTER_KEY_VARIABLE, raising=False)
    assert keys_of_environment() is None
    secret, public = new_key("alice", tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, str(secret))
    with pytest.raises(BadInput, match=MASTER_KEY_VARIABLE):
        keys_of_environment()
    monkeypatch.setenv(MASTER_KEY_VARIABLE, str(public))
    assert keys_of_environment() == Keys(read_secret(secret), read_public(str(public)))
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(BadInput, match=KEY_VARIABLE):
        keys_of_environment()
