"""A map or reduce task run in a directory of the test: whole lines from one command to the next, and all of the input."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from offerd.tasks.sandbox_layout import KEEP_FILE
from offerd_frameworks.mapreduce import digests, map_task, reduce_task, task
from offerd_frameworks.mapreduce.describe import cleaning
from offerd_frameworks.mapreduce.failures import (
    CommandFailed,
    ServerBusy,
    TokenRefused,
    TransferError,
    Unfetchable,
)
from offerd_frameworks.mapreduce.functions import read_pieces
from offerd_frameworks.mapreduce.streaming import COMMANDS, Reporter, Scan, scan
from offerd_frameworks.mapreduce.transfer import Server


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the task; its input lies above it."""
    directory = tmp_path / "box" / "tasks" / "task"
    (directory / COMMANDS).mkdir(parents=True)
    monkeypatch.chdir(directory)
    for name, value in (("OFFERD_DATA_DIR", str(tmp_path / "data")), ("OFFERD_SLAVE_ID", "s1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OFFERD_CONTAINER_ID", "c1")
    return directory


AS_AN_ACCOUNT = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
"""Runs a command without root's right to read the files of others."""


def piece(path: Path, content: bytes, start: int = 0, length: int | None = None) -> list[Any]:
    """A piece of a file that now has this content."""
    path.write_bytes(content)
    return [str(path), start, len(content) - start if length is None else length, start]


def description(pieces: list[list[Any]], mapper: str = "cat", **more: Any) -> dict[str, Any]:
    return {
        "mapper": mapper, "combiner": "", "reads_pieces": False, "pieces": pieces, "block": "", "places": [],
        "sort_bytes": 4 << 20, "reduces": 1, "job": {}, "environment": {}, **more,
    }  # fmt: skip


def mapped(what: dict[str, Any], sandbox: Path) -> list[bytes]:
    map_task.run(what, Reporter())
    return (sandbox / "output").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("reduces", [0, 1])
def test_an_incomplete_last_line_of_a_file_is_completed(tmp_path: Path, sandbox: Path, reduces: int) -> None:
    pieces = [
        piece(tmp_path / "f1", b"a b"),
        piece(tmp_path / "f2", b"c d"),
        piece(tmp_path / "f3", b"e\n"),
        piece(tmp_path / "f4", b"x\nf\n", 2),
    ]
    assert mapped(description(pieces, reduces=reduces), sandbox) == [b"a b\n", b"c d\n", b"e\n", b"f\n"]


def test_a_commands_files_are_never_taken_for_the_tasks_own(tmp_path: Path, sandbox: Path) -> None:
    pieces = [piece(tmp_path / "f", b"a\n")]
    names = "output index unsorted report.json input"
    lines = mapped(description(pieces, f"for f in {names}; do echo mine > $f; done; cat"), sandbox)
    assert lines == [b"a\n"]
    assert (sandbox / COMMANDS / "output").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["output", "index", "report.json", "mapper"])
def test_a_file_of_the_job_may_have_any_name(
    tmp_path: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (sandbox / COMMANDS).rmdir()
    shelf = tmp_path / "box" / "files-job-j"
    shelf.mkdir()
    (shelf / name).write_text("#!/bin/sh\ncat\n")
    (shelf / name).chmod(0o755)
    size, sha256 = 14, digests.of_file(shelf / name)
    what = description(
        [piece(tmp_path / "f", b"a\n")],
        f"{name} | ./{name}",
        kind="map",
        set="job-j",
        key="k",
        files={name: (size, sha256)},
        shelves=[],
        data="/data/@",
    )
    for variable, value in task.pack(what).items():
        monkeypatch.setenv(variable, value)
    assert task.main() == 0
    assert (sandbox / "output").read_bytes() == b"a\n"
    assert (sandbox / KEEP_FILE).exists(), "the slave is not to collect what reduces read"
    assert (shelf / name).read_text() == "#!/bin/sh\ncat\n"


def test_files_of_killed_tasks_are_removed_but_not_their_logs(sandbox: Path) -> None:
    for name in ("output", "input", "unsorted", "segment-00001", "sortX8dp1c", "commands/core", "stderr"):
        path = sandbox.parent / "j-1.m00000.0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    locked = sandbox.parent / "j-1.m00000.0" / "commands" / "locked"
    (locked / "inner").mkdir(parents=True)
    (locked / "inner").chmod(0)
    locked.chmod(0)
    command = cleaning("j-1", 1).command
    assert command is not None
    words = [*AS_AN_ACCOUNT, "sh", "-c", command.shell]
    subprocess.run(words, check=True)
    assert os.listdir(sandbox.parent / "j-1.m00000.0") == ["stderr"]


@pytest.mark.parametrize("reduces", [0, 1])
def test_the_last_line_of_a_mapper_does_not_run_into_the_next_ones_first(
    tmp_path: Path, sandbox: Path, reduces: int
) -> None:
    pieces = [piece(tmp_path / name, b"\n") for name in ("f1", "f2", "f3")]
    what = description(pieces, 'printf "%s\t1" ${mapreduce_map_input_file##*/}', reduces=reduces)
    assert mapped(what, sandbox) == [b"f1\t1\n", b"f2\t1\n", b"f3\t1\n"]


def test_a_mapper_that_writes_much_for_each_piece_is_passed_on_whole(tmp_path: Path, sandbox: Path) -> None:
    pieces = [piece(tmp_path / name, b"x\n") for name in ("f1", "f2")]
    lines = mapped(description(pieces, "cat >&2; seq -w 400000"), sandbox)
    assert lines == sorted([b"%06d\n" % number for number in range(1, 400_001)] * 2)


def test_an_incomplete_last_line_of_a_reducer_is_completed(sandbox: Path) -> None:
    what: dict[str, Any] = {
        "low": None, "high": None, "containers": [], "maps": [], "index_digests": "", "by_key": True,
        "reducer": "printf 'the end'", "job": {}, "environment": {},
    }  # fmt: skip
    assert reduce_task.run(what, Reporter(), lambda *_: None)["output_records"] == 1
    assert (sandbox / "output").read_bytes() == b"the end\n"


def fetching(maps: int) -> reduce_task.Shuffle:
    """A reduce that fetches something from as many slaves as there are maps."""
    containers = [[[f"127.0.0.1:{number + 1}", "", "token"], f"c{number}"] for number in range(maps)]
    what = {
        "low": None, "high": None, "containers": containers,
        "maps": [[number, f"j.m0000{number}.0", 10] for number in range(maps)],
        "index_digests": base64.b64encode(bytes(32 * maps)).decode(),
    }  # fmt: skip
    return reduce_task.Shuffle(what, lambda *_: None)


def test_map_outputs_on_a_busy_server_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_busy(self: Server, path: str, offset: int = 0, length: int | None = None) -> bytes:
        raise ServerBusy(f"{self.address} is busy")

    monkeypatch.setattr(Server, "read", is_busy)
    with pytest.raises(ServerBusy, match="is busy"):
        fetching(1).fetch()


def test_map_outputs_behind_an_expired_token_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_dead(self: Server, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self._check(401, path, b"this token is not good for this, or not any more")
        raise AssertionError

    monkeypatch.setattr(Server, "read", is_dead)
    with pytest.raises(TokenRefused, match="it has expired"):
        fetching(1).fetch()


def test_each_reduce_visits_the_slaves_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[str] = []

    def is_asked(self: Server, path: str, offset: int = 0, length: int | None = None) -> bytes:
        visited.append(self.address)
        raise FileNotFoundError(path)

    monkeypatch.setattr(Server, "read", is_asked)
    monkeypatch.setattr(reduce_task, "FETCHERS", 1)
    orders = set()
    for _ in range(20):
        visited.clear()
        with pytest.raises(Unfetchable):
            fetching(8).fetch()
        orders.add(tuple(visited))
    assert len(orders) > 1


@pytest.mark.parametrize("mapper", ["cat", "cat; exit 1", "head -n 1"])
def test_a_file_that_has_become_shorter_fails_the_task(tmp_path: Path, mapper: str) -> None:
    pieces = [piece(tmp_path / "f", b"a\nb\n", length=1000)]
    with pytest.raises(CommandFailed, match="the input is shorter than it was"):
        map_task.run(description(pieces, mapper), Reporter())


def test_a_file_that_becomes_shorter_while_it_is_read_fails_the_task(tmp_path: Path) -> None:
    pieces = [piece(tmp_path / "f", b"a\nb\n")]
    what = description(pieces, ': > "$mapreduce_map_input_file"; cat')
    with pytest.raises(CommandFailed, match="the input is shorter than it was"):
        map_task.run(what, Reporter())


def test_functions_are_not_given_less_than_their_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("file", "start", "length"):
        monkeypatch.setenv(f"mapreduce_map_input_{name}", "")
    (tmp_path / "f").write_bytes(b"a\nb\n")
    lines = read_pieces([(str(tmp_path / "f"), "f", 0, 5, 0)])
    assert [next(lines), next(lines)] == [b"a\n", b"b\n"]
    with pytest.raises(CommandFailed, match="the input is shorter than it was"):
        next(lines)


def block_task(tmp_path: Path, content: bytes, stored: bytes) -> dict[str, Any]:
    """The task of a block that was stored with one content and now has another."""
    (tmp_path / "data").mkdir()
    half = len(stored) // 2
    (tmp_path / "data" / "block").write_bytes(content)
    pieces = [["f", 0, half, 0], ["g", 0, len(stored) - half, half]]
    places = [["s1", ["127.0.0.1:1", "", "token"]]]
    return description(pieces, block="block", data="/data/@", places=places, sha256=digests.of_bytes(stored))


def test_a_block_is_read_in_place_if_it_is_what_was_stored(tmp_path: Path, sandbox: Path) -> None:
    report = map_task.run(block_task(tmp_path, b"b\na\n", b"b\na\n"), Reporter())
    assert (report["read"], report["input_records"]) == ("local", 2)
    assert (sandbox / "output").read_bytes() == b"a\nb\n"


def test_a_damaged_block_fails_the_task(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"block .* is damaged"):
        map_task.run(block_task(tmp_path, b"b\nc\n", b"b\na\n"), Reporter())


def test_a_block_of_another_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offerd_frameworks.mapreduce.transfer.PAUSES_S", ())
    with pytest.raises(TransferError, match="does not answer"):
        map_task.run(block_task(tmp_path, b"b\na\nb\n", b"b\na\n"), Reporter())


def test_a_scan_goes_into_a_digest_if_asked(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a\nb\n")
    digest = hashlib.sha256(b"a\n")
    assert scan(str(tmp_path / "f"), 2, 2, digest) == Scan(1, False)
    assert digest.hexdigest() == digests.of_bytes(b"a\nb\n")
