"""One word for each thing: the words that docs/glossary.md has retired are in nothing that a person reads."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RETIRED = {
    "hello": r"hellos?|helloed",
    "deaf": r"deaf|deafness",
    "stray": r"strays?|strayed",
    "bury, burial": r"bury|buries|buried|burying|burials?",
    "tell, told": r"tells?|told|telling|teller",
    "forest": r"forests?",
    "holdout": r"holdouts?",
    "he, she, his, her, him": r"he|she|his|her|hers|him|himself|herself",
    "of before": r"of before",
    "whilst, shall": r"whilst|shall",
}
"""What each row of the glossary's table keeps out, as a pattern of whole words."""
ALLOWED = re.compile(
    r"tells? (\w+ ){0,6}apart|told (\w+ ){0,6}apart|telling (\w+ ){0,6}apart"
    r"|hello[., ]+world|[./\w]*\bhello\.(?:c|py|txt|sh)\b|\./hello\b|\b(?:say|echo|printf) hello\b"
    r"|[\"'`]hello[^\"'`\s]*[\"'`]|hello-[\d{]|\bhello from rank\b|-o hello\b"
    r"|\.tell\(|ExecutorHello|HELLO"
)
"""Where such a word may stand: what is called hello, the position in a file (`io.IOBase.tell`), names on the wire."""
BLOCK = re.compile(r"^```.*?^```|(?<=\n\n)(?: {4}.*\n)+", re.MULTILINE | re.DOTALL)
"""A fenced or an indented block of Markdown: a program or command that may print or be named hello."""
TEST_NAME = re.compile(r"`tests/[\w/]+\.py::\w+`")
"""A test that a document names. Its name is looked at in the folder that defines it."""
NOT_A_TEXT = {".json", ".lock", ".svg", ".png", ".bin"}
# Two that name the words, one in the words of lawyers, and the program of that name.
OF_OTHERS = "/vendor/"
"""Folders with libraries as their authors wrote them."""
EXEMPT = {"tests/unit/test_words.py", "docs/glossary.md", "LICENSE", "examples/mpi/hello.c"}


def folder_of(name: str) -> str:
    """The folder that a file is counted in: its top folder, with two levels more below tests/; "." for a file at the top."""
    parts = name.split("/")[:-1]
    depth = 1
    if parts[:1] == ["tests"]:
        depth = 3 if parts[1:2] == ["unit"] else 2
    return "/".join(parts[:depth]) or "."


def tracked_files() -> list[str]:
    """The names of all files that git knows, relative to the repository."""
    return subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()


def files_of(folder: str) -> Iterator[Path]:
    """The text files that are counted in a folder (see folder_of)."""
    for name in tracked_files():
        path = ROOT / name
        if (
            folder_of(name) == folder
            and path.is_file()
            and path.suffix not in NOT_A_TEXT
            and name not in EXEMPT
            and OF_OTHERS not in name
        ):
            yield path


def retired_words(text: str, *, is_markdown: bool = False) -> list[tuple[int, str]]:
    """Line and word of each. A name is taken apart: `say_hello`, `sayHello` hold the word hello."""
    if is_markdown:
        text = BLOCK.sub(
            lambda block: re.sub("hello", "", block[0], flags=re.IGNORECASE), TEST_NAME.sub("", text)
        )
    words = "|".join(RETIRED.values())
    # The parts of a name count as words; between them stand underscores or a change from small to capital.
    pattern = re.compile(rf"(?<![A-Za-z])(?:{words})(?![a-z])", re.IGNORECASE)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = ALLOWED.sub(" ", line)
        split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", bare)
        found += [(number, match[0]) for match in pattern.finditer(split)]
    return found


def folders() -> list[str]:
    """Every folder that some tracked file is counted in."""
    return sorted({folder_of(name) for name in tracked_files()})


@pytest.mark.parametrize("folder", folders())
def test_no_retired_word_is_used(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in files_of(folder)
        for line, word in retired_words(path.read_text(), is_markdown=path.suffix == ".md")
    ]
    assert found == []


def test_the_glossary_lists_what_is_retired() -> None:
    table = (ROOT / "docs/glossary.md").read_text().split("## Words that are not used")[1]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows[1:] == list(RETIRED)


@pytest.mark.parametrize(
    "line",
    ["say_hello()", "a stray process", "sayHello", "class HelloSent:", "He ends it.", "buried", "it told them", "TOLD = 1"],
)  # fmt: skip
def test_a_planted_word_is_found(line: str) -> None:
    assert retired_words(line)


@pytest.mark.parametrize(
    "line",
    [
        "the",
        "theirs",
        "astray",
        "others",
        "stream.tell()",
        "hello, world",
        "tells the two apart",
        "mpiexec ./hello",
    ],
)
def test_what_only_looks_like_one_passes(line: str) -> None:
    assert retired_words(line) == []


def test_markdown_may_say_hello_in_a_block_of_code_and_nowhere_else() -> None:
    fenced, indented = "text\n\n```\nhello\n```\n", "text\n\n    class Hello:\n"
    assert [retired_words(text, is_markdown=True) for text in (fenced, indented)] == [[], []]
    assert retired_words(fenced) == [(4, "hello")]
    text = fenced + "\nThe hello comes first, and `say_hello` too.\n\n    he\n"
    assert retired_words(text, is_markdown=True) == [(7, "hello"), (7, "hello"), (9, "he")]


def test_markdown_may_name_a_test_whose_own_folder_is_looked_at() -> None:
    assert retired_words("| a hang | `tests/e2e/test_a.py::test_it_is_told` |\n", is_markdown=True) == []
    assert retired_words("| it told | `tests/e2e/test_a.py::test_it` |\n", is_markdown=True) == [(1, "told")]
