"""Nothing that a file server sends is run, merged or kept unless its digest is right."""

from __future__ import annotations

import base64
import json
import os
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from offerd import FilesAccess, OfferdError
from offerd_frameworks.mapreduce import blocks, digests, ranges, reduce_task, task
from offerd_frameworks.mapreduce import scheduler as scheduling
from offerd_frameworks.mapreduce.digests import WrongDigest
from offerd_frameworks.mapreduce.failures import TransferError, Unfetchable
from offerd_frameworks.mapreduce.output import OutputDirectory
from offerd_frameworks.mapreduce.report import read_report, read_said
from offerd_frameworks.mapreduce.streaming import COMMANDS, Reporter
from offerd_frameworks.mapreduce.task_input import fetch_first
from offerd_frameworks.mapreduce.transfer import Server

EVIL = b"#!/bin/sh\ntouch ../../../ran\n"


class Files(BaseHTTPRequestHandler):
    """A slave's file server, with what the test puts there."""

    protocol_version = "HTTP/1.1"
    held: dict[str, bytes]

    def do_GET(self) -> None:
        content = self.held.get(unquote(self.path))
        if content is None:
            self.send_response(404)
            content = b""
        elif "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            content = content[int(first) : int(last) + 1 if last else None]
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Slave:
    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Files,), {"held": self.held}))
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.files = FilesAccess(self.address)
        self.door = [*self.files.narrowed("/containers/c")]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def slave() -> Iterator[Slave]:
    slave = Slave()
    yield slave
    slave.close()


@pytest.fixture
def other() -> Iterator[Slave]:
    slave = Slave()
    yield slave
    slave.close()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A container's sandbox; a task's directory is the working directory."""
    directory = tmp_path / "box" / "tasks" / "task"
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("OFFERD_CONTAINER_ID", "c-here")
    return tmp_path / "box"


def map_with(
    files: dict[str, bytes], shelves: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> int:
    """Run a map whose mapper is a file of the job; returns the exit status."""
    (tmp_path / "input").write_bytes(b"a\n")
    description = {
        "id": "j.m00000.0", "key": "k", "kind": "map", "set": "job-j", "data": "/data/@", "shelves": shelves,
        "reduces": 0, "job": {},
        "files": {name: (len(content), digests.of_bytes(content)) for name, content in files.items()},
        "environment": {}, "mapper": "./mapper", "combiner": "", "reads_pieces": False, "block": "", "sha256": "",
        "places": [], "pieces": [[str(tmp_path / "input"), 0, 2, 0]], "sort_bytes": 1 << 20,
    }  # fmt: skip
    for name, value in task.pack(description).items():
        monkeypatch.setenv(name, value)
    return task.main()


@pytest.mark.parametrize("evil", [EVIL, EVIL.ljust(14, b"#")[:14], b""])
def test_a_changed_script_is_neither_made_executable_nor_run(
    slave: Slave, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: bytes
) -> None:
    good = b"#!/bin/sh\ncat\n"
    slave.held["/data/@/job-j/file-0"] = evil
    assert map_with({"mapper": good}, [slave.door], monkeypatch, tmp_path) == 1
    report = read_report(digests.unseal(Path("report.json").read_bytes(), "k", "it"))
    assert any(why in report["error"] for why in ("SHA-256", "has only"))
    assert not (tmp_path / "ran").exists()
    assert os.listdir(COMMANDS) == []
    assert os.listdir(box / "files-job-j") == []


def test_a_task_that_cannot_start_a_thread_says_so(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert map_with({}, [], monkeypatch, tmp_path) == 1
    report = read_report(digests.unseal(Path("report.json").read_bytes(), "k", "it"))
    assert report["error"].startswith("no thread can be started: ")


def test_a_job_goes_on_with_the_next_slave_that_has_its_script_unchanged(
    slave: Slave, other: Slave, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = b"#!/bin/sh\ncat\n"
    slave.held["/data/@/job-j/file-0"] = EVIL[: len(good)]
    other.held["/data/@/job-j/file-0"] = good
    assert map_with({"mapper": good}, [slave.door, other.door], monkeypatch, tmp_path) == 0
    assert Path("output").read_bytes() == b"a\n"
    assert not (tmp_path / "ran").exists()


def test_a_server_that_sends_more_than_was_asked_for_is_cut_off(slave: Slave, tmp_path: Path) -> None:
    slave.held["/f"] = b"x" * 100

    with pytest.raises(TransferError, match=r"instead of|has changed"):
        fetch_first([slave.door], "/f", str(tmp_path / "f"), 10, digests.of_bytes(b"y" * 10))
    assert not (tmp_path / "f").exists()
    with Server(slave.files) as server, pytest.raises(TransferError, match="more of /f than can be read"):
        server._request("GET", "/f", most=99)


# -- the shuffle ----------------------------------------------------------------------------------------------------------


def lines_of_map(number: int, amount: int) -> list[bytes]:
    chance = random.Random(number)
    return sorted(b"%05d\t%d-%s\n" % (chance.randrange(10_000), number, b"x" * 40) for _ in range(amount))


class Site:
    """Map outputs on a slave, and a reduce that fetches a part of each."""

    def __init__(self, slave: Slave, maps: int = 3, amount: int = 3000) -> None:
        self.slave = slave
        self.lines = [lines_of_map(number, amount) for number in range(maps)]
        self.indexes: list[bytes] = []
        for number, lines in enumerate(self.lines):
            Path("mapped").write_bytes(b"".join(lines))
            with open("mapped", "rb") as file:
                self.indexes.append(ranges.pack(ranges.make_index(file)))
            slave.held[self.path(number, "output")] = b"".join(lines)
            slave.held[self.path(number, "index")] = self.indexes[-1]
        os.unlink("mapped")

    def path(self, number: int, name: str) -> str:
        return f"/containers/c/tasks/j.m{number:05}.0/{name}"

    def fetch(self, low: bytes | None, high: bytes | None) -> list[bytes]:
        """The lines fetched for this partition, sorted."""
        known = b"".join(bytes.fromhex(digests.of_bytes(index)) for index in self.indexes)
        description: dict[str, Any] = {
            "low": None if low is None else low.decode(),
            "high": None if high is None else high.decode(),
            "containers": [(self.slave.door, "c")],
            "maps": [
                [0, f"j.m{number:05}.0", len(b"".join(lines))] for number, lines in enumerate(self.lines)
            ],
            "index_digests": base64.b64encode(known).decode(),
        }
        segments = reduce_task.Shuffle(description, lambda *_: None).fetch()
        found = sorted(
            line for name in segments for line in Path(name).read_bytes().splitlines(keepends=True)
        )
        for name in segments:
            os.unlink(name)
        return found

    def wanted(self, low: bytes | None, high: bytes | None) -> list[bytes]:
        return sorted(
            line
            for lines in self.lines
            for line in lines
            if (low is None or ranges.key_of(line) >= low) and (high is None or ranges.key_of(line) < high)
        )


@pytest.mark.parametrize("amount", [1, 3, 40, 3000])
def test_a_part_that_is_checked_step_by_step_has_every_line_of_its_range(
    slave: Slave, box: Path, amount: int
) -> None:
    site = Site(slave, amount=amount)
    bounds = [None, b"00000", b"01234", b"01235", b"05000", b"09999", None]
    for low in bounds[:-1]:
        for high in bounds[1:]:
            if low is None or high is None or low <= high:
                assert site.fetch(low, high) == site.wanted(low, high), (low, high)


@pytest.mark.parametrize("name", ["output", "index"])
def test_an_output_that_was_changed_is_not_merged_and_only_that_map_is_run_again(
    slave: Slave, box: Path, name: str
) -> None:
    site = Site(slave)
    path = site.path(1, name)
    content = slave.held[path]
    for at in (0, len(content) // 3, len(content) // 2, len(content) - 1):
        changed = bytes([content[at] ^ 1])
        slave.held[path] = content[:at] + changed + content[at + 1 :]
        with pytest.raises(Unfetchable, match="SHA-256") as caught:
            site.fetch(None, None)
        assert caught.value.maps == [1]
    slave.held[path] = content
    assert site.fetch(None, None) == site.wanted(None, None)


def test_an_index_and_an_output_that_were_changed_together_are_not_merged(slave: Slave, box: Path) -> None:
    site = Site(slave)
    Path("mapped").write_bytes(b"".join(lines_of_map(99, 3000)))
    with open("mapped", "rb") as file:
        slave.held[site.path(1, "index")] = ranges.pack(ranges.make_index(file))
    slave.held[site.path(1, "output")] = Path("mapped").read_bytes()
    with pytest.raises(Unfetchable, match=r"index .* SHA-256"):
        site.fetch(b"01000", b"02000")


# -- what the framework takes ---------------------------------------------------------------------------------------------


def test_a_report_is_believed_only_with_the_key_of_its_task(slave: Slave) -> None:
    path = f"/containers/c/tasks/j.m00000.0/{task.REPORT}"
    content = json.dumps({"output_bytes": 3}).encode()
    slave.held[path] = digests.seal(content, "key")
    assert scheduling._report(slave.files, "c", "j.m00000.0", "key") == {"output_bytes": 3}
    for forged in (digests.seal(content, "other"), content, b"", digests.seal(content, "key") + b" "):
        slave.held[path] = forged
        with pytest.raises(WrongDigest, match="not written by the task"):
            scheduling._report(slave.files, "c", "j.m00000.0", "key")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[" * 100_000, b'{"output_bytes": -1}', b'{"output_bytes": 1e400}', b'{"output_bytes": "1"}',
     b'{"output_bytes": ' + b"9" * 40 + b"}", b'{"samples": [["\xc4\x80", 1]]}', b'{"samples": [[1, 1]]}',
     b'{"unfetchable": [-1]}', b'{"index_sha256": "x"}', b'{"counters": {"a": "b"}}', b'{"counters": []}',
     b'{"output_sha256": "' + b"0" * 64 + b'\\n"}'],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a task's report"):
        read_report(content)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 100_000, b'{"bytes": "x"}', b'{"bytes": -1}', b'{"status": 1}']
)
def test_progress_that_makes_no_sense_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a task's progress"):
        read_said(content)


def test_a_part_of_the_result_is_kept_only_as_its_task_wrote_it(slave: Slave, tmp_path: Path) -> None:
    slave.held["/o"] = b"good\n"
    output = OutputDirectory(str(tmp_path / "out"))
    output.save("a", slave.files, "/o", 5, digests.of_bytes(b"good\n"))
    output.keep(0, "a")
    slave.held["/o"] = b"evil\n"
    with pytest.raises(TransferError, match="SHA-256"):
        output.save("b", slave.files, "/o", 5, digests.of_bytes(b"good\n"))
    output.publish()
    assert (tmp_path / "out" / "part-00000").read_bytes() == b"good\n"


def manifest(**more: Any) -> bytes:
    block = {"name": "block-00000", "bytes": 2, "sha256": "0" * 64, "pieces": [["f", 0, 2, 0]], "slaves": []}
    return json.dumps(
        {"set": "s", "bytes": 2, "replicas": 1, "created_s": 1.0, "blocks": [{**block, **more}]}
    ).encode()


def hosts(*slaves: Slave) -> list[blocks.Host]:
    listing = json.dumps(
        {"entries": [{"name": "manifest.json"}, {"name": "block-00000"}], "truncated": False}
    ).encode()
    for slave in slaves:
        slave.held["/data/@/s"] = listing
    return [blocks.Host(f"s{n}", f"slave-{n}", slave.files) for n, slave in enumerate(slaves)]


def test_slaves_that_do_not_agree_on_a_set_are_named_and_it_is_not_read(slave: Slave, other: Slave) -> None:
    on = hosts(slave, other)
    slave.held["/data/@/s/manifest.json"] = other.held["/data/@/s/manifest.json"] = manifest()
    found = blocks.find("s", on)
    assert found is not None
    assert [(block.sha256, len(block.places)) for block in found.blocks] == [("0" * 64, 2)]
    other.held["/data/@/s/manifest.json"] = manifest(sha256="1" * 64)
    with pytest.raises(OfferdError, match="slave-0 and slave-1 do not agree"):
        blocks.find("s", on)


LISTINGS = [
    b"", b"[" * 100_000, b"[]", b"{}", b'{"entries": 1, "truncated": false}', b'{"entries": [], "truncated": 1}',
    b'{"entries": [1], "truncated": false}', b'{"entries": [{}], "truncated": false}',
    b'{"entries": [{"name": 7}], "truncated": false}', b'{"entries": [{"name": "\\ud800"}], "truncated": false}',
    b'{"entries": [{"name": "%s"}], "truncated": false}' % (b"x" * 5000),
]  # fmt: skip


@pytest.mark.parametrize("content", LISTINGS)
def test_a_slave_with_an_invalid_listing_counts_as_silent(slave: Slave, other: Slave, content: bytes) -> None:
    on = hosts(slave, other)
    slave.held["/data/@/s/manifest.json"] = manifest()
    other.held["/data/@/s"] = other.held["/data/@"] = content
    found = blocks.find("s", on)
    assert found is not None
    assert [[place.hostname for place in block.places] for block in found.blocks] == [["slave-0"]]
    slave.held["/data/@"] = json.dumps(
        {"entries": [{"name": name} for name in ("s", "../s", "a\nb", "")], "truncated": False}
    ).encode()
    assert blocks.names(on) == ["s"], "names that no set has are none"


@pytest.mark.parametrize("said", ["", "²", "-", "9" * 5000])
def test_a_server_that_does_not_say_how_long_a_file_is_fails_the_transfer(
    slave: Slave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    slave.held["/f"] = b"x"
    send_header = Files.send_header
    monkeypatch.setattr(
        Files,
        "send_header",
        lambda self, name, value: send_header(self, name, said if name == "Content-Length" else value),
    )
    with (
        Server(slave.files) as server,
        (tmp_path / "f").open("wb") as file,
        pytest.raises(TransferError, match="how long"),
    ):
        server.copy("/f", file.fileno())


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, manifest(name="../../etc/passwd"), manifest(bytes=-1), manifest(sha256=1)],
)
def test_a_manifest_that_makes_no_sense_is_an_error_of_one_line(slave: Slave, content: bytes) -> None:
    slave.held["/data/@/s/manifest.json"] = content
    with pytest.raises(OfferdError, match="cannot be read") as caught:
        blocks.find("s", hosts(slave))
    assert "\n" not in str(caught.value)


def test_a_description_of_many_maps_goes_into_variables_that_a_kernel_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    description = {"index_digests": base64.b64encode(random.Random(1).randbytes(32 * 9_999)).decode()}
    packed = task.pack(description)
    assert len(packed) > 3
    assert all(len(f"{name}={value}") < 128 << 10 for name, value in packed.items())
    assert task.unpack(packed) == description


def test_what_a_reduce_writes_is_sealed_and_has_its_digest(box: Path) -> None:
    Path(COMMANDS).mkdir()
    what: dict[str, Any] = {
        "low": None, "high": None, "containers": [], "maps": [], "index_digests": "", "by_key": True,
        "reducer": "echo the end", "job": {}, "environment": {},
    }  # fmt: skip
    report = reduce_task.run(what, Reporter(), lambda *_: None)
    assert report["output_sha256"] == digests.of_bytes(b"the end\n")
