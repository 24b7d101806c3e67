"""`offerd cluster`: what it writes into the account's store, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offerd.credentials.keys import new_key, public_of, read_public, read_secret
from offerd.masters.clusters import own_store, resolve
from offerd_cli.main import main

MASTER = "m" * 40


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("OFFERD_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_a_cluster_is_added_with_a_new_key_whose_public_part_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["cluster", "add", "prod", "10.0.0.1:5060", "--master-key", MASTER]) == 0
    said = capsys.readouterr()
    keys = resolve().keys
    assert keys is not None
    assert (said.out, keys.master) == (f"{public_of(keys.secret)}\n", MASTER)
    assert "send it to the operator of prod, who must authorize it" in said.err
    # Another address, the same key: whoever was let in stays so.
    assert main(["cluster", "add", "prod", "10.0.0.2:5060", "--master-key", MASTER]) == 0
    assert capsys.readouterr().out == said.out
    assert (resolve().address, resolve().keys) == ("tcp://10.0.0.2:5060", keys)


def test_a_given_key_is_copied(tmp_path: Path) -> None:
    secret, public = new_key("alice", tmp_path)
    line = ["cluster", "add", "lab", "zk://a,b/p", "--master-key", str(public), "--key", str(secret)]
    assert main(line) == 0
    keys, text = resolve().keys, read_secret(secret)
    secret.unlink()
    assert keys is not None
    assert (resolve().keys, keys.secret, keys.master) == (keys, text, read_public(str(public)))


def test_list_use_and_remove(capsys: pytest.CaptureFixture[str], store: Path) -> None:
    assert main(["cluster", "list"]) == 0
    assert "no clusters" in capsys.readouterr().err
    for name in ("one", "two"):
        assert main(["cluster", "add", name, f"{name}:1"]) == 0
    assert "the current cluster is still one" in capsys.readouterr().err
    assert main(["cluster", "use", "two"]) == 0
    assert main(["cluster", "list"]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["one", "one:1", "none"], ["*", "two", "two:1"],
    ]  # fmt: skip
    assert main(["cluster", "list", "--json"]) == 0
    (_, two) = json.loads(capsys.readouterr().out)["clusters"]
    assert two == {
        "name": "two", "master": "two:1", "master_key": "", "key": "", "public_key": "", "current": True,
        "store": str(store), "base": "",
    }  # fmt: skip
    assert main(["cluster", "remove", "two"]) == 0
    assert list(own_store().read().known) == ["one"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["add", "a b", "host"], "is not a valid name"),
        (["add", "a", "host:port"], "is not an address"),
        (["add", "a", "zk://host"], "names no path"),
        (["add", "a", "host", "--master-key", "nonsense"], "is neither a public key"),
        (["add", "a", "host", "--key", "nonsense"], "--key needs --master-key"),
        (["add", "a", "host", "--master-key", MASTER, "--key", "/none"], "cannot read the key file"),
        (["use", "none"], "there is no cluster 'none'"),
        (["remove", "none"], "there is no cluster 'none'"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], line: list[str], word: str
) -> None:
    assert main(["cluster", *line]) == 2
    said = capsys.readouterr().err
    assert (word in said, said.count("\n")) == (True, 1), said
    assert own_store().read().known == {}
