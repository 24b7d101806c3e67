"""The demo's work: the shell's count and Python's must be the same, on files made to make them differ."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from offerd_cli.wordcount import SHELL_COUNT, chunks, count_words, library_sources, parse_counts

NASTY = [
    b"",
    b"no_line_end",
    b"begins where the last one ended",
    b"caf\xc3\xa9 na\xefve \x00binary\x00 Word word WORD\n",
    b"a1b2_c--d\r\n\n  e\tf",
    b"1234 5678\n",
]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    names = []
    for number, content in enumerate(NASTY):
        path = tmp_path / f"part {number}.py"
        path.write_bytes(content)
        names.append(str(path))
    return names


def test_the_shell_counts_what_python_counts(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in paths))
    done = subprocess.run(
        ["sh", "-c", SHELL_COUNT, "count", str(tmp_path / "list")], stdout=subprocess.PIPE, check=True
    )
    assert parse_counts(done.stdout) == count_words(paths)
    assert count_words(paths)[b"no_line_end"] == 1


def test_counts_of_several_parts_add_up() -> None:
    assert parse_counts(b"  1 a\n  2 b\n  5 a\n") == {b"a": 6, b"b": 2}


def test_chunks_hold_every_file_once_and_are_of_about_one_size(tmp_path: Path) -> None:
    paths = []
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(bytes(number * 100))
        paths.append(path)
    parts = chunks(paths, 4)
    assert sorted(name for part in parts for name in part) == sorted(map(str, paths))
    sizes = [sum(Path(name).stat().st_size for name in part) for part in parts]
    assert max(sizes) - min(sizes) <= 4000


def test_there_are_no_more_chunks_than_files(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert chunks([tmp_path / "a"], 10) == [[str(tmp_path / "a")]]


def test_the_library_is_found_without_what_is_installed_below_it() -> None:
    sources = library_sources()
    assert len(sources) > 400
    assert not any("site-packages" in path.parts for path in sources)
