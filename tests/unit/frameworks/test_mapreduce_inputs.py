"""What `--input` may name: paths, patterns, several with commas, data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd import BadInput
from offerd_frameworks.mapreduce.inputs import expand, matches


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "a.txt", "b.txt", "c.log", "_SUCCESS", ".hidden", "x,y", "[z]", "s p", "logs/1/a", "logs/1/b", "logs/2/a",
        "logs/_tmp/a", "caf\udce9.txt",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["a.txt"], ["a.txt"]),
        (["a.txt,c.log"], ["a.txt", "c.log"]),
        (["c.log", "a.txt,b.txt"], ["c.log", "a.txt", "b.txt"]),
        (["?.txt"], ["a.txt", "b.txt"]),
        (["[ab].txt,c.*"], ["a.txt", "b.txt", "c.log"]),
        (["[!a].txt"], ["b.txt"]),
        (["[^a].txt"], ["b.txt"]),
        (["[a-b].*"], ["a.txt", "b.txt"]),
        (["{c.log,a.txt}"], ["a.txt", "c.log"]),
        (["{a,b}.txt,c.{log,txt}"], ["a.txt", "b.txt", "c.log"]),
        (["{a,{b,c}}.{t{x,}t,log}"], ["a.txt", "b.txt", "c.log"]),
        (["logs/*/a"], ["logs/1/a", "logs/2/a"]),
        (["logs/_*/a"], ["logs/_tmp/a"]),
        (["./logs/{1,2}"], ["./logs/1", "./logs/2"]),
        (["*S*"], []),
        (["_S*"], ["_SUCCESS"]),
        ([".h*"], [".hidden"]),
        (["x,y"], ["x,y"]),
        (["x\\,y,a.txt"], ["x,y", "a.txt"]),
        (["[z]"], ["[z]"]),
        (["\\[z\\]"], ["[z]"]),
        (["\\[*"], ["[z]"]),
        (["s*p"], ["s p"]),
        (["caf*"], ["caf\udce9.txt"]),
        (["data:one,a.txt,data:t*"], ["data:one", "a.txt", "data:t*"]),
        (["no/such"], ["no/such"]),
    ],
)
def test_an_input_names_what_hadoop_would_take(texts: list[str], found: list[str]) -> None:
    if not found:
        with pytest.raises(BadInput, match="no input matches"):
            expand(texts)
        return
    assert expand(texts) == found


def test_absolute_patterns_name_what_hadoop_would_take_too(place: Path) -> None:
    assert expand([f"{place}/logs/*/b"]) == [f"{place}/logs/1/b"]


@pytest.mark.parametrize("text", ["a.txt,", ",a.txt", "a.txt,,c.log", ""])
def test_a_comma_too_many_is_an_error(text: str) -> None:
    with pytest.raises(BadInput, match="has a comma with nothing before or after it"):
        expand([text])


def test_a_pattern_over_an_unreadable_directory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir

    def closed(path: str) -> list[str]:
        if path == "logs/2/":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(BadInput, match=r"cannot read the directory logs/2/: Permission denied"):
        expand(["logs/*/*"])


def test_sets_have_patterns_too() -> None:
    names = ["logs-1", "logs-2", "texts", "_x"]
    assert matches(names, "logs-*") == ["logs-1", "logs-2"]
    assert matches(names, "{texts,logs-[2-9]}") == ["logs-2", "texts"]
    assert matches(names, "*") == ["logs-1", "logs-2", "texts"]
