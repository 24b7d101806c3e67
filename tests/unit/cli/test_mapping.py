"""How `offerd map` reads its words: the sources of arguments, the placeholders in the command, and the size limits."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_cli.arguments import Argument, Arguments, split_words
from offerd_cli.mapping import MapJob, map_job
from offerd_cli.places import Template
from offerd_cli.task_options import TaskOptions


def ones(*words: str) -> list[Argument]:
    """Arguments from one source."""
    return [(word,) for word in words]


def read(*words: str, null: bool = False) -> list[Argument]:
    return list(split_words(words, null=null)[1])


def argv(words: list[str], *argument: str, number: int = 1) -> list[str]:
    return Template(words, len(argument)).fill(argument, number)


# -- Sources ------------------------------------------------------------------------------------------------------------


def test_arguments_follow_three_colons() -> None:
    command, arguments = split_words(["wc", "-l", ":::", "a", "b"])
    assert (command, list(arguments)) == (["wc", "-l"], ones("a", "b"))


def test_three_colons_without_an_argument_give_none() -> None:
    assert read("true", ":::") == []


def test_four_colons_name_files_of_arguments_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a b\n\nc")
    assert read("wc", "::::", str(tmp_path / "list")) == ones("a b", "c")


def test_arguments_may_end_with_zero_bytes_and_be_empty(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\nb\0\0c\0")
    assert read("wc", "::::", str(tmp_path / "list"), null=True) == ones("a\nb", "", "c")
    (tmp_path / "list").write_bytes(b"\0c")
    assert read("wc", "::::", str(tmp_path / "list"), null=True) == ones("", "c")


@pytest.mark.parametrize("words", [["wc"], ["wc", "::::", "-"]])
def test_arguments_come_from_stdin_when_no_other_source_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x\ny\n")))
    assert read(*words) == ones("x", "y")


@pytest.mark.parametrize(
    ("words", "arguments"),  # as GNU parallel 20221122 gives them
    [
        ("::: a b ::: c d", "a c|a d|b c|b d"),
        ("::: a b :::+ c d e", "a c|b d"),
        ("::: a b :::+ c d ::: e f", "a c e|a c f|b d e|b d f"),
        ("::: a b ::: c d :::+ e f", "a c e|a d f|b c e|b d f"),
        ("::: a b :::: two", "a m1|a m2|b m1|b m2"),
        (":::: two three", "m1 n1|m1 n3|m2 n1|m2 n3"),
        (":::: two ::::+ three", "m1 n1|m2 "),
        (":::: two three ::::+ two", "m1 n1 m1|m1  m2|m2 n1 m1|m2  m2"),
        (":::+ a b", "a|b"),
        ("::: a :::: none", ""),
    ],
)
def test_of_several_sources_all_combinations_run_and_linked_ones_go_together(
    words: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("two", "m1\nm2\n"), ("three", "n1\n\nn3\n"), ("none", "")):
        (tmp_path / name).write_text(content)
    assert "|".join(" ".join(each) for each in read("echo", *words.split())) == arguments


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([":::", "a"], "the command is missing"),
        (["wc", "::::"], "the file is missing"),
        (["wc", "::::", "no/such/file"], "cannot read arguments from no/such/file: No such file"),
        (["wc", "::::", "-", ":::", "a", "::::", "-"], "stdin can be read only once"),
        (["wc", ":::", "a", ":::", ":::", "b"], "a ::: has no arguments after it"),
        (["wc", *(":::", *map(str, range(200))) * 4], "1,600,000,000 combinations"),
    ],
)
def test_words_without_a_command_or_arguments_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        split_words(words)


def test_arguments_of_a_file_keep_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\nb\n")
    assert read("wc", "::::", str(tmp_path / "list")) == ones("\udcff\udcfe", "b")


# -- Places -------------------------------------------------------------------------------------------------------------


def test_the_argument_is_appended_if_there_is_no_placeholder() -> None:
    assert argv(["gzip", "-9"], "a b") == ["gzip", "-9", "a b"]
    assert argv(["echo"], "a", "b") == ["echo", "a", "b"]


def test_the_argument_replaces_every_placeholder() -> None:
    assert argv(["cp", "{}", "{}.old", "-v"], "x") == ["cp", "x", "x.old", "-v"]


def test_an_argument_that_looks_like_a_placeholder_is_not_replaced() -> None:
    assert argv(["echo", "{}", "{}"], "{}") == ["echo", "{}", "{}"]


@pytest.mark.parametrize(
    ("argument", "filled"),  # as GNU parallel 20221122 gives them
    [
        ("a.b", ["a", "a.b", ".", "a"]),
        ("x/y.tar.gz", ["x/y.tar", "y.tar.gz", "x", "y.tar"]),
        (".bashrc", ["", ".bashrc", ".", ""]),
        ("a.", ["a", "a.", ".", "a"]),
        ("a.x/b", ["a.x/b", "b", "a.x", "b"]),
        ("/", ["/", "", "/", ""]),
        ("a/b/", ["a/b/", "", "a", ""]),
        ("a//b", ["a//b", "b", "a", "b"]),
        ("/a", ["/a", "a", "/", "a"]),
        ("", ["", "", ".", ""]),
    ],
)
def test_a_placeholder_may_stand_for_a_part_of_the_argument(argument: str, filled: list[str]) -> None:
    assert argv(["{.}", "{/}", "{//}", "{/.}"], argument) == filled
    assert argv(["{1.}", "{1/}", "{1//}", "{-1/.}"], argument) == filled


def test_the_number_of_the_run_has_a_placeholder() -> None:
    assert argv(["cp", "{}", "out-{#}"], "a", number=7) == ["cp", "a", "out-7"]
    assert argv(["echo", "{#}"], "a", number=7) == ["echo", "7"]


def test_each_of_several_sources_has_a_placeholder_and_all_have_one_together() -> None:
    assert argv(["echo", "{2}", "{1.}-{-1}"], "a.x", "b") == ["echo", "b", "a-b"]
    assert argv(["echo", "{.}", "z"], "a.x", "b.y") == ["echo", "a", "b", "z"]
    assert argv(["sh", "-c", "echo {}!"], "a", "b") == ["sh", "-c", "echo a b!"]


def test_braces_that_are_not_a_placeholder_are_text() -> None:
    words = ["grep", "-E", "x{3}", "{a}", "{1,2}", "{0}", "${x}", "{ }"]
    assert argv([*words, "{}"], "f") == [*words, "f"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["echo", "{3}"], "a source that is missing: there are 2"),
        (["echo", "{%}"], "use {#}, the number of the argument"),
        (["echo", "{= s/a/b/ =}"], "Perl"),
    ],
)
def test_a_placeholder_without_a_value_is_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        argv(words, "a", "b")


@pytest.mark.parametrize("word", ["{3}", "{2}.txt", "{-2}", "out-{2.}"])
def test_a_placeholder_of_a_missing_source_is_refused_where_it_cannot_be_a_pattern(word: str) -> None:
    with pytest.raises(BadInput, match="a source that is missing: there is only one; add one with :::"):
        argv(["echo", word], "1")


def test_a_map_without_arguments_says_that_nothing_was_run(capsys: pytest.CaptureFixture[str]) -> None:
    job = MapJob("127.0.0.1:1", ["echo"], Arguments([[]], 1), TaskOptions(Resources.of(cpus=1)))
    assert map_job(job) == 0
    assert capsys.readouterr() == ("", "offerd map: there are no arguments, so nothing was run\n")


# -- Sizes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["echo", "{}{}", ":::", "a" * 70_000], "an argument of 140000 bytes"),
        (["echo", ":::", "a" * 70_000, "\N{SNOWMAN}" * 50_000], "an argument of 150000 bytes"),
        (["echo", *["{}"] * 9, ":::", "a" * 100_000], "does not fit into one message"),
        (["echo", *["x"] * 66_000, ":::", "a"], "66002 words"),
        (["echo", ":::", "a\0b"], "did you mean --null"),
    ],
)
def test_commands_that_could_not_be_sent_or_started_are_refused_first(
    words: list[str], complaint: str
) -> None:
    command, arguments = split_words(words)
    job = MapJob("127.0.0.1:1", command, arguments, TaskOptions(Resources.of(cpus="0.1")))
    with pytest.raises(BadInput, match=complaint):
        map_job(job)
