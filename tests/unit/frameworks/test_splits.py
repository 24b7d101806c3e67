"""Maps read all of the input, once, in whole lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd import BadInput
from offerd_frameworks.mapreduce import Job
from offerd_frameworks.mapreduce.splits import MAX_PIECES, input_files, split_files


def read(split_pieces: list[tuple[str, int, int]]) -> bytes:
    found = b""
    for name, offset, length in split_pieces:
        found += Path(name).read_bytes()[offset : offset + length]
    return found


@given(
    contents=st.lists(
        st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=30), max_size=5
    ),
    has_end=st.booleans(),
    block=st.integers(1, 100),
)
def test_pieces_are_whole_lines_and_all_of_the_input_once(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]], has_end: bool, block: int
) -> None:
    base = tmp_path_factory.mktemp("splits")
    names = []
    for number, lines in enumerate(contents):
        path = base / f"{number}"
        path.write_bytes(b"\n".join(lines) + (b"\n" if has_end and lines else b""))
        names.append(str(path))
    splits = split_files(names, block)
    pieces = [piece for split in splits for piece in split.pieces]
    assert read([(p.name, p.offset, p.length) for p in pieces]) == b"".join(
        Path(n).read_bytes() for n in names
    )
    for piece in pieces:
        content = Path(piece.name).read_bytes()
        assert piece.length > 0
        assert piece.start == 0 or content[piece.start - 1 : piece.start] == b"\n"


def test_a_large_file_is_cut_evenly(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"123456789\n" * 1000)
    splits = split_files([str(tmp_path / "f")], 3_000)
    assert [split.length for split in splits] == [2500] * 4


def test_small_files_share_a_split_and_keep_their_names(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").write_bytes(b"x" * 99 + b"\n")
    first, second = split_files(input_files([tmp_path]), 600)
    assert [Path(piece.name).name for piece in first.pieces] == list("012345")
    assert [Path(piece.name).name for piece in second.pieces] == list("6789")


def test_a_split_has_a_bounded_number_of_pieces(tmp_path: Path) -> None:
    for number in range(MAX_PIECES + 1):
        (tmp_path / f"{number:04d}").write_bytes(b"x\n")
    assert [len(split.pieces) for split in split_files(input_files([tmp_path]), 1 << 20)] == [MAX_PIECES, 1]


def test_directories_are_read_without_what_hadoop_leaves_out(tmp_path: Path) -> None:
    for name in ("a", "sub/b", "_SUCCESS", ".hidden", "_logs/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    assert [Path(name).relative_to(tmp_path).as_posix() for name in input_files([tmp_path])] == ["a", "sub/b"]


def test_a_directory_that_cannot_be_read_is_bad_input_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read every directory, so the test refuses it."""
    for name in ("a", "closed/b", "_logs/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    look = os.scandir

    def refuse(path: str) -> object:
        if os.path.basename(path) in ("closed", "_logs"):
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BadInput, match=r"cannot read the directory .*/closed: Permission denied"):
        input_files([tmp_path])


def test_broken_links_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x\n")
    (tmp_path / "b").symlink_to(tmp_path / "none")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert [Path(name).name for name in input_files([tmp_path])] == ["a", "c"]


def test_missing_input_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no input"):
        input_files([tmp_path / "none"])


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_devices_and_pipes_cannot_be_input(path: str) -> None:
    with pytest.raises(BadInput, match="neither a file nor a directory"):
        input_files([path])


def test_an_endless_file_is_too_large_to_be_copied() -> None:
    job = Job(("x",), "y", "cat", reduces=0, files=("/dev/zero",))
    with pytest.raises(BadInput, match="/dev/zero is larger than 64 MiB"):
        job.read_files()


def test_empty_files_make_no_splits(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert split_files([str(tmp_path / "f")], 100) == []
