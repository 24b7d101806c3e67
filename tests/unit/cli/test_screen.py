"""What a terminal shows while a single command waits."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from offerd.errors import OfferdError
from offerd_cli.screen import Screen, about


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """What a person sees, and a stderr that leads there."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "30")
        yield ours, stderr
    os.close(ours)


def test_on_a_terminal_waiting_is_one_line_that_is_wiped_by_what_follows(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, stderr = terminal
    monkeypatch.setattr(sys, "stderr", stderr)
    screen = Screen("offerd run", progress=False)
    assert screen.waiting("waiting: one")
    assert screen.waiting("waiting: two, and more than fits")
    screen.note("over")
    wipe = b"\r\x1b[K"
    lines = [b"", b"offerd run: waiting: one", b"offerd run: waiting: two, and", b"offerd run: over\r\n"]
    expected = wipe.join(lines)
    drawn = b""
    while len(drawn) < len(expected):  # a terminal passes on in parts of any size
        drawn += os.read(seen, 1000)
    assert drawn == expected


def test_elsewhere_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stderr = io.TextIOWrapper(written)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert not Screen("offerd run", progress=False).waiting("waiting: one")
    assert written.getvalue() == b""


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        (
            "t1",
            "no task t1 is running; `offerd tasks` lists them",
            "no task t1 is running; `offerd tasks` lists them",
        ),
        ("t1", "no task t12 is running", "t1: no task t12 is running"),
        ("host7", "the master has gone", "host7: the master has gone"),
    ],
)
def test_the_name_of_what_failed_is_shown_once(name: str, text: str, shown: str) -> None:
    assert about(name, OfferdError(text)) == shown
