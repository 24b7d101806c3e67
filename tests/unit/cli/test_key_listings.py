"""How people write rights, and how keys and tokens are listed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from offerd.errors import BadInput
from offerd.operator_messages import KeySummary, Rights, Tokens, TokenSummary
from offerd_cli import key_listings as listings
from offerd_cli import render
from offerd_cli.main import cli, main


@pytest.mark.parametrize(
    ("said", "rights"),
    [
        ({"slave": True}, Rights(slave=True)),
        ({"operator": True}, Rights(operator=True)),
        ({"frameworks": ["science,alice"]}, Rights(roles=["science"], users=["alice"])),
        (
            {"operator": True, "frameworks": ["science,alice,guest", "prod/web,alice"]},
            Rights(operator=True, roles=["science", "prod/web"], users=["alice", "guest"]),
        ),
        ({"frameworks": ["*,"]}, Rights(roles=["*"], users=[""])),
    ],
)
def test_what_a_token_is_for(said: dict[str, object], rights: Rights) -> None:
    arguments: dict[str, object] = {"slave": False, "operator": False, "frameworks": []} | said
    assert listings.parse_rights(**arguments) == rights  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({}, "say what the token is for"),
        ({"slave": True, "operator": True}, "gives no other rights"),
        ({"slave": True, "frameworks": ["a,b"]}, "gives no other rights"),
        ({"frameworks": ["science"]}, "write ROLE,USER"),
        ({"frameworks": [",alice"]}, "write ROLE,USER"),
    ],
)
def test_impossible_rights_of_a_token_are_refused_in_one_line(said: dict[str, object], word: str) -> None:
    arguments: dict[str, object] = {"slave": False, "operator": False, "frameworks": []} | said
    with pytest.raises(BadInput, match=word):
        listings.parse_rights(**arguments)  # type: ignore[arg-type]


def test_listings_show_the_rights_of_each_and_who_let_them_join() -> None:
    out = render.console()
    with out.capture() as captured:
        out.print(
            listings.keys_table(
                [
                    KeySummary("host7", "k" * 40, Rights(slave=True), True, "ops"),
                    KeySummary(
                        "root", "l" * 40, Rights(operator=True, every_role=True, users=["root"]), False
                    ),
                ]
            )
        )
        out.print(listings.tokens_table([TokenSummary("abc", Rights(slave=True), 2, 60.0, "ops")]))
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[1] == ["host7", "slave", "token", "of", "ops", "k" * 40]
    assert lines[2][:3] == ["root", "operator;", "every"]
    assert lines[4] == ["abc", "slave", "2", "1m", "ops"]


@pytest.mark.parametrize(
    ("users", "text"),
    [
        ([], "every user except root"),
        (["alice"], "every user except root"),
        (["alice", "root"], "every user"),
        (["", "root"], "every user, (default)"),
    ],
)
def test_the_users_of_one_who_may_be_every_user_are_said_once(users: list[str], text: str) -> None:
    rights = Rights(every_role=True, every_user=True, users=users)
    assert listings.rights_text(rights) == f"every role; {text}"


def test_documents_hold_the_same() -> None:
    tokens = Tokens([TokenSummary("abc", Rights(slave=True), 2, 60.0, "ops")], {"used": 3})
    document: Any = listings.tokens_document(tokens)
    assert document["refused"] == {"used": 3}
    (token,) = document["tokens"]
    assert (token["token_id"], token["slave"], token["uses_left"]) == ("abc", True, 2)
    keys: Any = listings.keys_document([KeySummary("host7", "k" * 40, Rights(slave=True), True, "ops")])
    (key,) = keys["keys"]
    assert (key["name"], key["enrolled"], key["by"]) == ("host7", True, "ops")


def test_refusals_are_summed_up_in_one_line() -> None:
    assert listings.refused_text({}) == ""
    assert listings.refused_text({"used": 2, "late": 1}) == (
        "refused since the master's start: 2 with a used token, 1 with an expired token"
    )


@pytest.mark.parametrize("words", [["master", "--help"], ["slave", "--help"], ["master", "init", "--help"]])
def test_daemons_and_what_makes_them_have_their_help(words: list[str]) -> None:
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 0
    assert "init" in shown.output or "join" in shown.output


def test_a_pair_is_made_in_a_directory_that_is_made_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new", "master", "--dir", str(tmp_path / "offerd")]) == 0
    assert stat.S_IMODE((tmp_path / "offerd/master.key").stat().st_mode) == 0o600
    assert main(["keys", "new", "master", "--dir", str(tmp_path / "no/such/parent")]) == 2
    assert capsys.readouterr().err.endswith(
        f"cannot make the directory {tmp_path}/no/such/parent: No such file or directory\n"
    )
