"""The examples run as their page says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import environment, offerd
from offerd_cli.local_cluster import LocalCluster

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "mapreduce"
TEXTS = ROOT / "docs" / "decisions"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(2, cpus="2", mem="1G", isolation="noop") as running:
        yield running


def python(cluster: LocalCluster, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=environment(cluster),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(output: Path) -> list[str]:
    return [line for part in sorted(output.glob("part-*")) for line in part.read_text().splitlines()]


def test_hadoops_scripts_count_the_same_as_one_process(cluster: LocalCluster, tmp_path: Path) -> None:
    done = offerd(
        cluster, "mapreduce", "--mapper", "map.py", "--reducer", "reduce.py", "--input", str(TEXTS),
        "--output", str(tmp_path / "out"), "--file", str(EXAMPLES / "map.py"), "--file", str(EXAMPLES / "reduce.py"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = Counter(word for path in TEXTS.iterdir() for word in path.read_text().split())
    assert sorted(lines(tmp_path / "out")) == sorted(f"{word}\t{number}" for word, number in counts.items())
    assert f"Words / seen = {counts.total():,}".encode() in done.stdout


def test_functions_of_a_program_count_words(cluster: LocalCluster, tmp_path: Path) -> None:
    said = python(cluster, str(EXAMPLES / "word_count.py"), str(TEXTS), str(tmp_path / "out"))
    assert " words in " in said
    assert any(line.startswith("offerd\t") for line in lines(tmp_path / "out"))


def test_an_index_names_the_files_of_a_word(cluster: LocalCluster, tmp_path: Path) -> None:
    python(cluster, str(EXAMPLES / "inverted_index.py"), str(TEXTS), str(tmp_path / "out"))
    index = dict(line.split("\t") for line in lines(tmp_path / "out"))
    pages = {path.name for path in TEXTS.iterdir() if "framework" in path.read_text().split()}
    assert set(index["framework"].split(",")) == pages
