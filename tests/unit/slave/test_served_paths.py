"""Listings of directories with any number of entries."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from offerd_slave import served_paths


def listed(path: Path) -> dict[str, object]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found: dict[str, object] = json.loads(served_paths.listing(directory))
    finally:
        os.close(directory)
    return found


def names_in(path: Path) -> list[str]:
    entries = listed(path)["entries"]
    assert isinstance(entries, list)
    return [entry["name"] for entry in entries]


@pytest.mark.parametrize(("count", "is_cut"), [(0, False), (5, False), (6, True)])
def test_a_long_listing_is_truncated_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, is_cut: bool
) -> None:
    monkeypatch.setattr(served_paths, "MAX_LISTED", 5)
    for number in reversed(range(count)):
        (tmp_path / str(number)).touch()
    assert names_in(tmp_path) == [str(number) for number in range(min(count, 5))]
    assert listed(tmp_path)["truncated"] is is_cut


def test_a_listing_of_a_huge_directory_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_paths, "MAX_LISTED", 10)
    monkeypatch.setattr(served_paths, "MAX_LOOKED_AT", 2_000)
    for number in range(3_000):
        (tmp_path / f"{number:05d}{'x' * 200}").touch()
    tracemalloc.start()
    try:
        found = listed(tmp_path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["truncated"] is True
    assert len(names_in(tmp_path)) == 10
    assert peak_bytes < 300_000, "all names together have 750,000 bytes"
