"""`offerd debug record`: what it prints of a daemon's answer."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from offerd.operator import OperatorClient
from offerd.protocol.recording_messages import EventsRecorded
from offerd_cli.commands.debug import command


def test_a_path_that_a_slave_names_is_printed_without_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = EventsRecorded("evil\x1b[2J", "/evil\x07\x1b]0;title/a.recording", is_whole=True)
    monkeypatch.setattr(OperatorClient, "record_events", lambda *_: made)
    done = CliRunner().invoke(command, ["record", "--master", "127.0.0.1:1"])
    assert done.exit_code == 0, done.output
    assert "/evil\\x07\\x1b]0;title/a.recording\n" in done.output
    assert done.output.replace("\n", "").isprintable()
