"""Names and texts of peers reach no terminal as control sequences, and make no lines of their own."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.text import Text

from offerd import operator
from offerd.daemons.daemon_log import OneLine
from offerd.errors import OfferdError
from offerd.messages import FrameworkInfo, Reason, SlaveInfo, TaskState, TaskStatus
from offerd.operator_messages import Cause, Cluster, Explanation, FrameworkSummary, SlaveSummary, TaskSummary
from offerd.protocol.change_messages import Changes, FrameworkNow, MasterNow, SlaveNow
from offerd.resources import Resources
from offerd_cli import render, slave_statistics
from offerd_cli.main import main
from offerd_cli.outcome import sentence
from offerd_cli.screen import Screen
from offerd_isolation.base import Usage

HOSTILE = (
    "\x1b[2J\x1b]52;c;cm0gLXJmIH4K\x07\x1b]0;owned\x07a\n2026-01-01 INFO b\r\x9b31m\u202ec\u2066d\u200be\x7f"
)
MARKS = "\x1b\x07\r\x9b\u202e\u2066\u200b\x7f"


def hostile(kind: type[Any], **known: Any) -> Any:
    """A struct in which every text is hostile."""
    for field in msgspec.structs.fields(kind):
        # An id has its own characters, and a bounded text its length.
        plain = getattr(field.type, "__supertype__", field.type)
        plain = getattr(plain, "__origin__", plain)
        if field.name not in known and plain is str:
            known[field.name] = f"{HOSTILE}{field.name}"
        elif field.name not in known and field.default is msgspec.NODEFAULT and plain in (int, float):
            known[field.name] = 3
    return kind(**known)


RESOURCES = Resources.of(cpus=1, mem="1G")
SLAVE = hostile(
    SlaveSummary,
    info=hostile(SlaveInfo, resources=RESOURCES, attributes={f"{HOSTILE}key": f"{HOSTILE}value"}),
)
FRAMEWORK = hostile(
    FrameworkSummary, used=RESOURCES, tasks={"TASK_RUNNING": 1}, wasted_resource_s={HOSTILE: 1.0}
)
TASKS = [hostile(TaskSummary, state=state, resources=RESOURCES) for state in TaskState]
CLUSTER = hostile(
    Cluster, total=RESOURCES, used=RESOURCES, offered=RESOURCES, tasks={"TASK_RUNNING": 1}, refused=1
)
CHANGES = Changes(
    "M/1", 1, 0, 5.0, hostile(MasterNow, wasted_resource_s={HOSTILE: 1.0}, ended_counts={HOSTILE: 1}), is_reset=True,
    slave_infos=[SLAVE.info], slaves=[hostile(SlaveNow, is_connected=True)], owner="\x1b]0;owner",
    frameworks=[hostile(FrameworkNow, ended_counts={HOSTILE: 1}, wasted_resource_s={HOSTILE: 1.0})],
    framework_infos=[hostile(FrameworkInfo)],
)  # fmt: skip
EXPLANATION = hostile(Explanation, problem="", causes=[hostile(Cause)], guaranteed=RESOURCES)
STATISTICS = {
    "hostname": f"{HOSTILE}host",
    "monotonic_s": 1.0,
    "executors": [],
    "tasks": [
        {
            "task_id": f"{HOSTILE}task",
            "framework_id": f"{HOSTILE}framework",
            "container_id": "c",
            "cpus": 1.0,
            "mem_bytes": 1,
            "usage": dict.fromkeys(Usage.__dataclass_fields__, 1),
        }
    ],
}


class FakeOperator:
    """A master whose peers are all hostile."""

    def __init__(self, master: str | None = None, **_: object) -> None:
        self.address = "tcp://127.0.0.1:1"
        self.leader = "127.0.0.1:1"

    def __enter__(self) -> FakeOperator:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cluster(self) -> Cluster:
        found: Cluster = CLUSTER
        return found

    def slaves(self) -> list[SlaveSummary]:
        return [SLAVE]

    shown_owner = "\x1b]0;owner"

    def frameworks(self, **_: object) -> list[FrameworkSummary]:
        return [FRAMEWORK]

    def tasks(self, **_: object) -> list[TaskSummary]:
        return TASKS

    def changes(self, _: object) -> Changes:
        return CHANGES

    def explain_framework(self, _: str) -> Explanation:
        found: Explanation = EXPLANATION
        return found

    def find_task(self, _: str) -> list[TaskSummary]:
        return [*TASKS, *TASKS]

    def kill_task(self, *_: object) -> None:
        raise OfferdError(f"no such task: {HOSTILE}")

    change_slave_mode = kill_task


@pytest.fixture(autouse=True)
def fake_master(monkeypatch: pytest.MonkeyPatch) -> None:
    from offerd_cli import reading

    monkeypatch.setattr(operator, "OperatorClient", FakeOperator)
    monkeypatch.setattr(reading, "OperatorClient", FakeOperator)
    monkeypatch.setattr(slave_statistics, "ask", lambda *_: STATISTICS)


def assert_plain(text: str) -> None:
    found = {letter for letter in text if unicodedata.category(letter)[0] == "C" and letter != "\n"}
    assert not found, text
    assert not [line for line in text.splitlines() if line.startswith("2026-01-01")], "a line of the peer's"


LISTINGS = (
    ("status",), ("slaves",), ("frameworks",), ("frameworks", "--all"), ("tasks",), ("tasks", "--all"),
    ("explain", "x"), ("metrics",), ("top", "--once", "--every", "100ms"),
)  # fmt: skip
COMPLAINTS = (
    ("logs", "x"),
    ("kill", HOSTILE),
    ("drain", HOSTILE),
    ("deactivate", HOSTILE),
    ("activate", HOSTILE),
    ("tasks", f"--{HOSTILE}"),
)


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_no_listing_passes_on_control_sequences(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    captured = capsys.readouterr()
    assert_plain(captured.out)
    assert_plain(captured.err)
    assert r"\x1b" in captured.out


@pytest.mark.parametrize("words", COMPLAINTS, ids=lambda words: words[0])
def test_no_error_message_passes_on_control_sequences(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_plain(captured.err)
    assert r"\x1b" in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("words", [("status",), ("frameworks",), ("tasks", "--all")], ids=" ".join)
def test_json_is_exact_and_ascii(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert_plain(out)
    assert out.isascii()
    assert any(HOSTILE in text for text in texts_of(json.loads(out)))


def texts_of(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [text for pair in document.items() for each in pair for text in texts_of(each)]
    if isinstance(document, list):
        return [text for each in document for text in texts_of(each)]
    return [document] if isinstance(document, str) else []


def test_on_a_terminal_only_our_own_colours_are_sent() -> None:
    out = io.StringIO()
    screen = render.ScreenConsole(file=out, force_terminal=True, color_system="standard", width=100)
    screen.print(render.tasks_table(TASKS))
    screen.print(Text.assemble((HOSTILE, "bold"), HOSTILE))
    screen.print(HOSTILE)
    plain = Text.from_ansi(out.getvalue()).plain
    assert r"\x1b]52;c;cm0gLXJmIH4K\x07" in plain
    sequences = out.getvalue().split("\x1b")[1:]
    assert sequences
    assert all(
        each.startswith("[") and each[1:].partition("m")[0].replace(";", "").isdigit() for each in sequences
    )


def test_styles_stay_with_their_words_when_words_grow() -> None:
    shown = render.escaped(Text.assemble(("a\x1b", "red"), "b", ("\nc", "bold")))
    assert shown.plain == r"a\x1bb\nc"
    assert [(shown.plain[span.start : span.end], str(span.style)) for span in shown.spans] == [
        (r"a\x1b", "red"),
        (r"\nc", "bold"),
    ]


def test_no_renderable_brings_control_sequences() -> None:
    class Odd:
        def __rich_console__(self, *_: object) -> Any:
            yield Text(f"one\n{HOSTILE}")

    out = io.StringIO()
    render.ScreenConsole(file=out, width=200).print(Odd())
    assert not set(MARKS) & set(out.getvalue())


def test_notes_and_progress_are_lines_of_printable_characters(capsys: pytest.CaptureFixture[str]) -> None:
    status = TaskStatus("t", TaskState.FAILED, reason=Reason.COMMAND_EXITED, message=HOSTILE)  # type: ignore[arg-type]
    screen = Screen("offerd run")
    screen.note(sentence(status))
    captured = capsys.readouterr()
    assert_plain(captured.err)
    assert len(captured.err.splitlines()) == 1


def test_the_output_of_a_task_is_its_own_affair(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Screen("offerd logs").write(b"\x1b[31mred\x1b[0m\n")
    assert capfdbinary.readouterr().out == b"\x1b[31mred\x1b[0m\n"


def test_a_line_of_a_log_is_one_line_whoever_wrote_it() -> None:
    record = logging.LogRecord("offerd", logging.INFO, "x", 1, "container %s", (HOSTILE,), None)
    assert_plain(OneLine("%(levelname)s %(message)s").format(record))
    record = logging.LogRecord("offerd", logging.INFO, "x", 1, "%s", ("x" * 100_000,), None)
    assert len(OneLine("%(message)s").format(record)) == 2000


def test_a_traceback_in_a_log_cannot_be_taken_for_lines_of_it() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("offerd", logging.ERROR, "x", 1, "a defect", (), info)
    first, *rest = OneLine("%(levelname)s %(message)s").format(record).splitlines()
    assert first == "ERROR a defect"
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert not set(MARKS) & set("".join(rest))


def test_richs_own_console_would_pass_control_sequences_on() -> None:
    """This is why offerd has its own console."""
    out = io.StringIO()
    Console(file=out, width=200, markup=False).print(HOSTILE)
    assert "\x1b" in out.getvalue()


def test_every_command_prints_through_the_one_place() -> None:
    """Otherwise the next command that prints a name could forget to escape it."""
    package = Path(render.__file__).parent
    direct = re.compile(r"click\.echo\([^\n]*err=True|\bConsole\(|(?<!Screen)\bTable(?:\.grid)?\(")
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        if path.name != "render.py"
        for line in path.read_text().splitlines()
        if direct.search(line)
    ]
    assert found == []
