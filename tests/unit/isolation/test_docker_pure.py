"""The docker module's parts that need no engine: names of images, pull policies, the pause program."""

from __future__ import annotations

import struct
import subprocess
import threading
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import urllib3.exceptions
from docker.errors import StreamParseError

from offerd_isolation.base import IsolationError
from offerd_isolation.docker import pause
from offerd_isolation.docker.engine import (
    PULLS_AT_ONCE,
    Engine,
    EngineError,
    NotFound,
    Unreachable,
    split_tag,
)
from offerd_isolation.docker.images import obtain
from offerd_isolation.docker.progress import PullProgress

DEBIAN = "docker.io/library/debian:12"


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("debian", "debian", "latest"),
        ("debian:12", "debian", "12"),
        ("registry:5000/debian", "registry:5000/debian", "latest"),
        ("registry:5000/a/b:1", "registry:5000/a/b", "1"),
        ("debian@sha256:00ff", "debian", "sha256:00ff"),
    ],
)
def test_an_image_without_a_tag_is_the_latest(image: str, name: str, tag: str) -> None:
    assert split_tag(image) == (name, tag)


class FakeApi:
    """An engine with these images, whose registry has those."""

    def __init__(self, here: set[str], registry: set[str]) -> None:
        self.here, self.registry = here, registry
        self.pulled: list[str] = []

    def inspect_image(self, name: str) -> dict[str, Any]:
        if name not in self.here:
            raise NotFound(name)
        return {"Id": "sha256:1", "Config": {"Env": ["PATH=/bin", "A=b=c", "nonsense"]}}

    def pull(self, name: str, tag: str, **_: object) -> list[dict[str, str]]:
        self.pulled.append(f"{name}:{tag}")
        if f"{name}:{tag}" not in self.registry:
            return [{"status": "Pulling"}, {"error": "manifest unknown"}]
        self.here.add(f"{name}:{tag}")
        return [{"status": "Downloading"}]


class FakeEngine(Engine):
    def __init__(self, api: FakeApi, pull_silence_s: float = 5) -> None:
        super().__init__(timeout_s=5, pull_silence_s=pull_silence_s)
        self._api = api

    def _translated(self, what: str, error: BaseException) -> BaseException:
        return error if isinstance(error, NotFound) else super()._translated(what, error)


@pytest.mark.parametrize(
    ("policy", "here", "pulls"),
    [("never", True, 0), ("if-absent", True, 0), ("if-absent", False, 1), ("always", True, 1)],
)
def test_the_policy_says_when_an_image_is_pulled(policy: str, here: bool, pulls: int) -> None:
    api = FakeApi({DEBIAN} if here else set(), {DEBIAN})
    image = obtain(FakeEngine(api), "debian:12", policy)
    assert image.environment == {"PATH": "/bin", "A": "b=c"}
    assert len(api.pulled) == pulls


def test_an_image_that_is_absent_and_may_not_be_pulled_is_an_error_that_says_what_to_do() -> None:
    api = FakeApi(set(), {DEBIAN})
    with pytest.raises(IsolationError, match=r"not on this slave.*--pull if-absent"):
        obtain(FakeEngine(api), "debian:12", "never")
    assert api.pulled == []


def test_a_failed_pull_says_why() -> None:
    with pytest.raises(IsolationError, match=r"image debian:13 cannot be had: .*manifest unknown"):
        obtain(FakeEngine(FakeApi(set(), set())), "debian:13", "if-absent")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(IsolationError, match=r"'sometimes' is none of never, if-absent, always"):
        obtain(FakeEngine(FakeApi(set(), set())), "debian:12", "sometimes")


def test_while_a_call_is_stuck_others_fail_at_once_and_then_work_again() -> None:
    engine = FakeEngine(FakeApi(set(), set()))
    free = threading.Event()
    with pytest.raises(Unreachable, match=r"slow: .*did not answer"):
        engine.call("slow", lambda _: free.wait(), timeout_s=0.01)
    with pytest.raises(Unreachable, match=r"quick: .*still does not answer"):
        engine.call("quick", lambda _: 1)
    stuck = next(each for each in threading.enumerate() if each.name == "docker: slow")
    free.set()
    stuck.join()
    assert engine.call("quick", lambda _: 1) == 1


def test_cancelled_pulls_end_whether_running_or_waiting() -> None:
    free, over = threading.Event(), threading.Event()

    class SilentApi(FakeApi):
        def pull(self, name: str, tag: str, **_: object) -> list[dict[str, str]]:
            free.wait()
            return []

    engine = FakeEngine(SilentApi(set(), set()), pull_silence_s=60)
    errors: list[str] = []

    def pull() -> None:
        with pytest.raises(EngineError) as raised:
            engine.pull("debian", cancelled=over.is_set)
        errors.append(str(raised.value))

    threads = [threading.Thread(target=pull) for _ in range(PULLS_AT_ONCE + 1)]
    try:
        for each in threads:
            each.start()
        over.set()
        for each in threads:
            each.join(10)
    finally:
        free.set()
    assert len(errors) == PULLS_AT_ONCE + 1
    assert all("cancelled" in error for error in errors)


@pytest.mark.parametrize(
    "error",
    [
        urllib3.exceptions.ProtocolError("Connection broken: IncompleteRead"),
        StreamParseError(ValueError("half a line")),
        ValueError("half a line"),
        IncompleteRead(b""),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_engine_that_dies_during_a_pull_does_not_answer(error: Exception) -> None:
    class DyingApi(FakeApi):
        def pull(self, name: str, tag: str, **_: object) -> Any:
            yield {"status": "Downloading"}
            raise error

    with pytest.raises(Unreachable, match="no Docker engine answers"):
        obtain(FakeEngine(DyingApi(set(), set())), "debian:12", "if-absent")


def line(layer: str, status: str, current: int | None = None, total: int | None = None) -> dict[str, Any]:
    """A line of the engine's answer."""
    detail = {"current": current, "total": total} if current is not None else {}
    return {"id": layer, "status": status, "progressDetail": detail}


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "pulling debian:12"),
        ([line("12", "Pulling from library/debian")], "pulling debian:12"),
        (
            [
                line("a", "Pulling fs layer"),
                line("b", "Waiting"),
                line("a", "Downloading", 500_000, 2_000_000),
            ],
            "pulling debian:12: 0 of 2 layers, 0.5 MB",
        ),
        (
            [
                line("a", "Pulling fs layer"),
                line("b", "Pulling fs layer"),
                line("a", "Downloading", 500_000, 2_000_000),
                line("b", "Downloading", 12_000_000, 38_100_000),
                line("a", "Download complete"),
                line("a", "Extracting", 1, 2_000_000),
                line("c", "Already exists"),
            ],
            "pulling debian:12: 1 of 3 layers, 14.0 of 40.1 MB",
        ),
        (
            [
                line("a", "Pulling fs layer"),
                line("a", "Downloading", 900_000, 1_000_000),
                line("a", "Retrying in 5 seconds"),
                line("a", "Downloading", 100_000, 1_000_000),
            ],
            "pulling debian:12: 0 of 1 layers, 0.1 of 1.0 MB",
        ),
        (
            [line("a", "Pulling fs layer"), line("a", "Downloading", 900_000, -1)],
            "pulling debian:12: 0 of 1 layers, 0.9 MB",
        ),
        (
            [
                line("a", "Pulling fs layer"),
                line("a", "Download complete"),
                line("a", "Pull complete"),
                {"status": "Digest: sha256:00"},
            ],
            "pulling debian:12: 1 of 1 layers, 0.0 of 0.0 MB",
        ),
    ],
)
def test_progress_of_a_pull_is_read_from_the_engines_lines(lines: list[dict[str, Any]], text: str) -> None:
    progress = PullProgress("debian:12")
    for each in lines:
        progress.note(each)
    assert progress.text() == text


def test_a_silent_pull_is_given_up_and_other_calls_go_on() -> None:
    free = threading.Event()

    class SilentApi(FakeApi):
        def pull(self, name: str, tag: str, **_: object) -> list[dict[str, str]]:
            free.wait()
            return []

    engine = FakeEngine(SilentApi(set(), set()), pull_silence_s=0.01)
    try:
        with pytest.raises(EngineError, match=r"pull debian: nothing was heard of it for 0\.01 s"):
            engine.pull("debian")
        assert engine.call("quick", lambda _: 1) == 1
    finally:
        free.set()


# -- the pause program ------------------------------------------------------------------------------------------------------


def test_the_pause_program_is_one_small_static_elf_file() -> None:
    program = pause.program("x86_64")
    assert program is not None
    assert program[:4] == b"\x7fELF"
    assert len(program) < 256
    (entry,) = struct.unpack_from("<Q", program, 24)
    (size,) = struct.unpack_from("<Q", program, 64 + 32)
    assert entry == 0x400000 + 120
    assert size == len(program)
    assert pause.program("m68k") is None


@pytest.mark.skipif(pause.program() is None, reason="no pause program for this machine")
def test_the_pause_program_waits_with_sigchld_ignored(tmp_path: Path) -> None:
    path = pause.install(tmp_path / "docker")
    written = path.stat().st_ino
    assert pause.install(tmp_path / "docker").stat().st_ino == written, "written once"
    with subprocess.Popen([path]) as process:
        try:
            status = Path(f"/proc/{process.pid}/status")
            ignored = 0
            while not ignored:
                assert process.poll() is None
                lines = dict(
                    line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line
                )
                ignored = int(lines["SigIgn"], 16) & 1 << 16  # SIGCHLD is 17
        finally:
            process.kill()
