"""Compressed input: all of it is read, with little memory, or one line says why not."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from offerd import BadInput
from offerd_frameworks.mapreduce import blocks, compressed, map_task
from offerd_frameworks.mapreduce.compressed import count_lines, open_plain
from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.functions import read_pieces
from offerd_frameworks.mapreduce.leftovers import Leftovers
from offerd_frameworks.mapreduce.splits import input_files, split_files
from offerd_frameworks.mapreduce.streaming import COMMANDS, Reporter


def zstd(content: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("needs the program zstd: apt-get install zstd")
    return subprocess.run(["zstd", "-cq"], input=content, stdout=subprocess.PIPE, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".zst": zstd,
}
LINES = [f"{number} {hashlib.sha256(b'%d' % number).hexdigest()}\n".encode() for number in range(4_000)]
every_kind = pytest.mark.parametrize("suffix", PACKERS)


def description(paths: Iterable[Path], mapper: str = "cat", **more: Any) -> dict[str, Any]:
    pieces = [[str(path), 0, path.stat().st_size, 0] for path in paths]
    return {
        "mapper": mapper, "combiner": "", "reads_pieces": False, "pieces": pieces, "block": "", "places": [],
        "sort_bytes": 4 << 20, "reduces": 0, "job": {}, "environment": {}, **more,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "box"
    (path / COMMANDS).mkdir(parents=True)
    monkeypatch.chdir(path)
    return path


@every_kind
def test_mappers_and_functions_get_the_contents_of_all_members(tmp_path: Path, suffix: str) -> None:
    content = b"".join(LINES) + b"not ended"
    file = tmp_path / f"in{suffix}"
    file.write_bytes(PACKERS[suffix](content[:100_000]) + PACKERS[suffix](content[100_000:]))
    report = map_task.run(description([file]), Reporter())
    assert Path("output").read_bytes() == content + b"\n"
    assert report["input_records"] == len(LINES) + 1
    assert report["input_bytes"] == file.stat().st_size
    assert b"".join(read_pieces([(str(file), str(file), 0, file.stat().st_size, 0)])) == content
    assert count_lines(str(file), Leftovers()) == len(LINES) + 1


@every_kind
@pytest.mark.parametrize(
    ("harm", "mapper"),
    [
        ("cut", "cat"),
        ("cut", "head -n 1"),
        ("flipped", "cat"),
        ("more", "cat"),
        ("another that is cut", "cat"),
    ],
)
def test_a_damaged_file_fails_the_map_even_if_the_mapper_stops_before_the_damage(
    tmp_path: Path, suffix: str, harm: str, mapper: str
) -> None:
    packed = bytearray(PACKERS[suffix](b"".join(LINES)))
    if harm == "cut":
        del packed[-20:]
    elif harm == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    elif harm == "more":
        packed += b"this is no member at all"
    else:
        packed += PACKERS[suffix](b"more\n")[:5]
    file = tmp_path / f"in{suffix}"
    file.write_bytes(packed)
    with pytest.raises(CommandFailed, match=rf"cannot decompress .*/in{suffix}: [^\n]+$"):
        map_task.run(description([file], mapper), Reporter())


def test_a_truncated_file_fails_functions_too(tmp_path: Path) -> None:
    file = tmp_path / "in.gz"
    file.write_bytes(gzip.compress(b"".join(LINES))[:-30])
    with pytest.raises(CommandFailed, match="cannot decompress"):
        list(read_pieces([(str(file), str(file), 0, 0, 0)]))


def test_padding_between_and_after_members_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "in.xz").write_bytes(lzma.compress(b"a\n") + b"\0" * 8 + lzma.compress(b"b\n") + b"\0" * 4)
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\n") + b"\0" * 100)
    for name in ("in.xz", "in.gz"):
        assert open_plain(str(tmp_path / name), Leftovers()).read() == b"a\nb\n"


def test_a_file_that_needs_more_memory_than_a_map_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "MOST_MEMORY_BYTES", 1 << 20)
    (tmp_path / "in.xz").write_bytes(lzma.compress(b"a\n", preset=9))
    with pytest.raises(CommandFailed, match=r"in\.xz: Memory usage limit"):
        open_plain(str(tmp_path / "in.xz"), Leftovers()).read()


def test_without_zstd_the_error_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.zst").write_bytes(b"x")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandFailed, match=r"this slave has no zstd; install it"):
        map_task.run(description([tmp_path / "in.zst"], "exit 0"), Reporter())


BOMB_MB = 160
COUNT = """
import sys
from offerd_frameworks.mapreduce.compressed import count_lines
from offerd_frameworks.mapreduce.leftovers import Leftovers
print(count_lines(sys.argv[1], Leftovers()))
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_decompressing_takes_little_memory_however_large_the_result(tmp_path: Path, suffix: str) -> None:
    """One line of many megabytes, which compresses to some kilobytes."""
    (tmp_path / f"in{suffix}").write_bytes(PACKERS[suffix](b"\0" * (BOMB_MB << 20 >> 3)) * 8)
    words = [sys.executable, "-c", COUNT, str(tmp_path / f"in{suffix}")]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    lines, peak_kib = map(int, done.stdout.split())
    assert lines == 1
    assert peak_kib < (BOMB_MB << 10) // 2


def test_each_file_is_the_input_of_a_map_of_its_own_and_is_not_cut(tmp_path: Path) -> None:
    for name in ("a", "b.GZ", "c.xz", "d", "e"):
        (tmp_path / name).write_bytes(b"x\n" * 500)
    found = [
        [Path(piece.name).name for piece in split.pieces]
        for split in split_files(input_files([tmp_path]), 2500)
    ]
    assert found == [["a"], ["b.GZ"], ["c.xz"], ["d", "e"]]
    assert [len(split_files([str(tmp_path / name)], 100)) for name in ("a", "b.GZ")] == [10, 1]


def test_a_file_too_large_for_a_block_is_refused_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a\n"))
    monkeypatch.setattr(blocks, "find", lambda *_: None)
    monkeypatch.setattr(blocks, "MAX_BLOCK_BYTES", 10)
    host = blocks.Host("s1", "slave-1", None)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"a\.gz is compressed and cannot be cut"):
        blocks.put("logs", [str(tmp_path)], [host], replicas=1, block_bytes=5)


@pytest.fixture
def block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The task of a block on this slave that was stored from a file with that suffix, and whose content is `now` this."""
    monkeypatch.setenv("OFFERD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("OFFERD_SLAVE_ID", "s1")

    def described(suffix: str, stored: bytes, now: bytes = b"", mapper: str = "cat") -> dict[str, Any]:
        (tmp_path / "block-00000").write_bytes(now or stored)
        pieces = [[f"/gone/in{suffix}", 0, len(stored), 0]]
        digest = hashlib.sha256(stored).hexdigest()
        places = [["s1", ["127.0.0.1:1", "", "token"]]]
        more = {"block": "block-00000", "data": "/data/@", "places": places, "sha256": digest}
        return description([], mapper, **more) | {"pieces": pieces}

    return described


@every_kind
def test_a_block_of_a_set_is_decompressed_as_its_file_would_be(
    tmp_path: Path, block: Callable[..., dict[str, Any]], suffix: str
) -> None:
    content = b"".join(LINES) + b"not ended"
    packed = PACKERS[suffix](content[:100_000]) + PACKERS[suffix](content[100_000:])
    report = map_task.run(block(suffix, packed), Reporter())
    assert (report["read"], report["input_records"]) == ("local", len(LINES) + 1)
    assert Path("output").read_bytes() == content + b"\n"
    piece = (str(tmp_path / "block-00000"), f"/gone/in{suffix}", 0, len(packed), 0)
    assert b"".join(read_pieces([piece])) == content


@every_kind
@pytest.mark.parametrize("mapper", ["cat", "head -n 1"])
def test_a_block_of_a_truncated_file_fails_the_map_with_the_files_name(
    block: Callable[..., dict[str, Any]], suffix: str, mapper: str
) -> None:
    cut = (PACKERS[suffix](b"a\n") + PACKERS[suffix](b"".join(LINES)))[:-20]
    with pytest.raises(CommandFailed, match=rf"cannot decompress /gone/in{suffix}: [^\n]+$"):
        map_task.run(block(suffix, cut, mapper=mapper), Reporter())


def test_a_changed_block_is_damaged_even_if_it_can_be_decompressed(
    block: Callable[..., dict[str, Any]],
) -> None:
    stored = gzip.compress(b"a\n", mtime=0)
    with pytest.raises(CommandFailed, match=r"block-00000 \(local\) is damaged"):
        map_task.run(block(".gz", stored, gzip.compress(b"b\n", mtime=0)), Reporter())


def test_functions_read_them_in_a_process_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.zst"
    file.write_bytes(zstd(b"".join(LINES)))
    program = (
        "import json, os, sys; from offerd_frameworks.mapreduce.functions import read_pieces\n"
        "sys.stdout.buffer.writelines(read_pieces(json.loads(os.environ['OFFERD_MAPREDUCE_PIECES'])))"
    )
    (Path(COMMANDS) / "program.py").write_text(program)
    what = description([file], f"{sys.executable} program.py", reads_pieces=True)
    assert map_task.run(what, Reporter())["input_records"] == len(LINES)
    assert Path("output").read_bytes() == b"".join(LINES)
