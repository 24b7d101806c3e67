"""Keys on disk: what is refused, and with which error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd.credentials.keys import new_key, public_of, read_public, read_secret
from offerd.errors import BadInput
from offerd.values.key_names import is_public_key


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


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    secret, _ = new_key("alice", tmp_path)
    before = secret.read_bytes()
    with pytest.raises(BadInput, match="File exists"):
        new_key("alice", tmp_path)
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../alice", "a/b", "a b", ".alice", "al@ice", "a" * 41, "a\n", "ä"])
def test_a_name_that_would_not_fit_into_ids_and_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is not a valid name"):
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
def test_garbage_is_not_a_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    for read in (read_secret, lambda file: read_public(str(file))):
        with pytest.raises(BadInput, match="holds no") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_public_file_holds_no_secret_key_and_a_secret_file_no_public_one(tmp_path: Path) -> None:
    secret, public = new_key("alice", tmp_path)
    public.chmod(0o600)
    with pytest.raises(BadInput, match="holds no secret key"):
        read_secret(public)
    with pytest.raises(BadInput, match="holds no public key"):
        read_public(str(secret))


def test_a_path_that_looks_like_a_key_is_read_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, public = new_key("alice", tmp_path)
    monkeypatch.chdir(tmp_path)
    path = "x" * 36 + ".pub"
    public.rename(path)
    assert is_public_key(path)
    assert read_public(path) in Path(path).read_text()
    Path(path).unlink()
    assert read_public(path) == path


@pytest.mark.parametrize("text", ["", "nothing here", "x" * 39, "x" * 41, "x" * 39 + '"', "a\0b"])
def test_a_text_that_is_neither_a_key_nor_a_file_is_refused(text: str) -> None:
    assert not is_public_key(text)
    with pytest.raises(BadInput, match="is neither a public key"):
        read_public(text)


def test_a_key_in_a_file_or_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    secret, public = new_key("alice", tmp_path)
    public.chmod(0o664)
    with pytest.raises(BadInput, match=f"others may write the key file {public} .*chmod go-w {public}"):
        read_public(str(public))
    public.chmod(0o644)
    tmp_path.chmod(0o770)
    refused = f"others may write the directory of the key file: {tmp_path} "
    with pytest.raises(BadInput, match=refused):
        read_secret(secret)
    with pytest.raises(BadInput, match=refused):
        read_public(str(public))
    tmp_path.chmod(0o1777)  # as /tmp is: nobody can replace what is ours
    assert public_of(read_secret(secret)) == read_public(str(public))


def test_the_directory_that_a_link_leads_to_counts_too(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    secret, _ = new_key("alice", tmp_path / "open")
    (tmp_path / "alice.key").symlink_to(secret)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(
        BadInput, match=f"others may write the directory of the key file: {tmp_path / 'open'} "
    ):
        read_secret(tmp_path / "alice.key")


@pytest.mark.root
def test_another_users_key_is_refused(tmp_path: Path) -> None:
    secret, _ = new_key("alice", tmp_path)
    os.chown(secret, 65534, -1)
    with pytest.raises(BadInput, match=f"the key file {secret} belongs to nobody; it must be root's"):
        read_secret(secret)
    os.chown(secret, 0, -1)
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(BadInput, match=f"the directory of the key file: {tmp_path} belongs to nobody"):
        read_secret(secret)
