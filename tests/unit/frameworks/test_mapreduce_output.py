"""A job's output directory: an impossible one is refused before the job begins, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from offerd import BadInput
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.output import SUCCESS, OutputDirectory


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, and what is in it."""
    for name in ("empty", "full/of", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def all_below(place: Path) -> Iterator[str]:
    return (os.path.join(base, name) for base, *names in os.walk(place) for part in names for name in part)


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("../link", "is a link"),
        ("../link/", "is a link"),
        ("../dangling", "is a link"),
        ("../file", "exists already"),
        ("../full", "exists already"),
        ("..", "exists already"),
        (".", "is the working directory"),
        ("../work", "is the working directory"),
        ("../file/out", "Not a directory"),
        ("x" * 256, "File name too long"),
        ("a\0b", "null"),
        ("data:set", "is not a directory"),
        ("", "is missing"),
    ],
)
def test_an_impossible_output_is_refused_before_anything_has_begun(
    place: Path, output: str, complaint: str
) -> None:
    before = sorted(all_below(place))
    with pytest.raises(BadInput, match=complaint):
        Job(("in",), output, "cat", "cat").check()
    with pytest.raises(BadInput, match=complaint):
        OutputDirectory(output)
    assert sorted(all_below(place)) == before


def test_a_name_too_long_is_refused_even_if_its_directory_does_not_exist_yet(place: Path) -> None:
    before = sorted(all_below(place))
    with pytest.raises(BadInput, match="File name too long"):
        OutputDirectory("new/" + "x" * 256)
    assert sorted(all_below(place)) == before


def test_a_place_that_may_not_be_replaced_is_refused_before_the_job(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount, for example, cannot be renamed: only rename(2) itself shows that."""
    rename = os.rename

    def is_busy(source: Path, target: Path) -> None:
        if target.name == "empty":
            raise OSError(16, "Device or resource busy", str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", is_busy)
    before = sorted(all_below(place))
    with pytest.raises(BadInput, match=r"empty cannot be replaced in .*: Device or resource busy"):
        OutputDirectory("../empty")
    assert sorted(all_below(place)) == before


@pytest.mark.parametrize("output", ["../empty", "new", "a/b/new", "x" * 255, "é" * 127])
def test_an_output_appears_complete_or_leaves_nothing(place: Path, output: str) -> None:
    before = sorted(all_below(place))
    OutputDirectory(output).discard()
    assert sorted(all_below(place)) == before
    OutputDirectory(output).publish()
    assert os.listdir(output) == [SUCCESS]
    assert [path for path in all_below(place) if "/." in path] == []


def test_an_empty_directory_keeps_its_permissions_and_its_owner(place: Path) -> None:
    empty = place / "empty"
    empty.chmod(0o2770)
    if os.geteuid() == 0:
        os.chown(empty, 12, 34)
        empty.chmod(0o2770)
    before = empty.stat()
    output = OutputDirectory("../empty")
    output.publish()
    after = empty.stat()
    assert (empty / SUCCESS).exists()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime_ns > before.st_mtime_ns
