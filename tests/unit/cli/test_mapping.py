"""How `offerd map` reads its words."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_cli.mapping import MapJob, _commands, split_words


def job(words: list[str], arguments: list[str]) -> MapJob:
    return MapJob("127.0.0.1:5060", words, arguments, Resources.of(cpus="0.1"))


def argv(words: list[str], argument: str) -> list[str]:
    return _commands(job(words, [argument]))(0).argv


def test_arguments_stand_behind_three_colons() -> None:
    assert split_words(["wc", "-l", ":::", "a", "b"]) == (["wc", "-l"], ["a", "b"])


def test_no_argument_behind_three_colons_is_no_argument() -> None:
    assert split_words(["true", ":::"]) == (["true"], [])


def test_four_colons_name_files_of_arguments_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a b\n\nc\n")
    assert split_words(["wc", "::::", str(tmp_path / "list")]) == (["wc"], ["a b", "c"])


def test_arguments_may_end_with_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\nb\0c\0")
    assert split_words(["wc", "::::", str(tmp_path / "list")], null=True) == (["wc"], ["a\nb", "c"])


@pytest.mark.parametrize("words", [["wc"], ["wc", "::::", "-"]])
def test_arguments_come_from_stdin_when_no_other_source_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x\ny\n")))
    assert split_words(words) == (["wc"], ["x", "y"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([":::", "a"], "the command is missing"),
        (["wc", ":::", "a", ":::", "b"], "give the arguments once"),
        (["wc", "::::"], "the file is missing"),
        (["wc", "::::", "no/such/file"], "cannot read arguments from no/such/file: No such file"),
    ],
)
def test_words_that_make_no_map_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        split_words(words)


def test_arguments_of_a_file_keep_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\nb\n")
    assert split_words(["wc", "::::", str(tmp_path / "list")]) == (["wc"], ["\udcff\udcfe", "b"])


def test_the_argument_is_appended_where_no_place_is_shown() -> None:
    assert argv(["gzip", "-9"], "a b") == ["gzip", "-9", "a b"]


def test_the_argument_goes_into_every_place_shown() -> None:
    assert argv(["cp", "{}", "{}.old", "-v"], "x") == ["cp", "x", "x.old", "-v"]


def test_an_argument_that_looks_like_a_place_is_taken_as_it_is() -> None:
    assert argv(["echo", "{}", "{}"], "{}") == ["echo", "{}", "{}"]
