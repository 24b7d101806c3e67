"""The demo's work: commands, functions and one process must agree, on files made to make them differ."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from offerd_cli.wordcount import MAPPER, REDUCER, add, count_words, library_sources, read_counts, words

NASTY = [
    b"",
    b"no_line_end",
    b"begins where the last one ended",
    b"caf\xc3\xa9 na\xefve \x00binary\x00 Word word WORD\n",
    b"a1b2_c--d\r\n\n  e\tf",
    b"1234 5678\n",
]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for number, content in enumerate(NASTY):
        path = tmp_path / f"part {number}.py"
        path.write_bytes(content)
        found.append(path)
    return found


def test_commands_count_what_one_process_counts(paths: list[Path], tmp_path: Path) -> None:
    mapped = [
        subprocess.run(MAPPER, shell=True, input=path.read_bytes(), capture_output=True, check=True)
        for path in paths
    ]
    lines = b"".join(sorted(line for done in mapped for line in done.stdout.splitlines(keepends=True)))
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "part-00000").open("wb") as part:
        subprocess.run(REDUCER, shell=True, input=lines, stdout=part, check=True)
    assert read_counts(tmp_path / "out") == count_words(paths)
    assert count_words(paths)[b"no_line_end"] == 1


def test_functions_count_what_one_process_counts(paths: list[Path], tmp_path: Path) -> None:
    groups: dict[str, list[int]] = {}
    for path in paths:
        for line in path.read_text(errors="replace").split("\n"):
            for word, one in words(line):
                groups.setdefault(word, []).append(one)
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "part-00000").open("w") as part:
        for word, ones in groups.items():
            part.writelines(f"{key}\t{total}\n" for key, total in add(word, iter(ones)))
    assert read_counts(tmp_path / "out") == count_words(paths)


def test_the_librarys_sources_are_pythons_own() -> None:
    sources = library_sources()
    assert len(sources) > 100
    assert not any("site-packages" in path.parts for path in sources)
