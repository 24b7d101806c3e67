"""`offerd debug replay`: what is shown of a recording."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from helpers.recorded_core import RecordedCore
from offerd import messages as m
from offerd.daemons.recording import Header, Ring, pack, pack_state
from offerd.errors import BadInput
from offerd.ids import ExecutorID, PeerID
from offerd.resources import Resources
from offerd.wire import codec
from offerd_cli.replaying import PrintOptions, is_part, print_recording
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.core import events as master_events
from offerd_master.core.events import PeerLost, Received
from offerd_master.core.master import MasterCore
from offerd_master.settings import MasterSettings
from offerd_slave.core import events as slave_events

PLAIN = PrintOptions("", None, has_ticks=False, is_full=False, is_json=False)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A slave and a framework register, and the slave leaves two seconds later."""
    settings = MasterSettings()
    core, ring = MasterCore(settings, "M-1", 1, DrfAllocator(settings.policy), 0.0), Ring(1000, 1 << 20)
    state, watched = list(pack_state(core)), RecordedCore(core, ring)
    slave, scheduler = PeerID(b"slave"), PeerID(b"scheduler")
    executors = [m.ExecutorInfo(ExecutorID("e"), module="m")]
    registration = m.RegisterSlave(m.SlaveInfo("node1", Resources.of(cpus=2, mem="1G")))
    watched.handle(Received(slave, registration), 1.0)
    watched.handle(Received(scheduler, m.RegisterFramework(m.FrameworkInfo("job", executors=executors))), 1.5)
    watched.tick(1.5)
    watched.tick(1.6)
    watched.handle(PeerLost(slave), 3.5)
    path = tmp_path / "a.recording"
    header = Header("master", "0.0.1", "a test", 1_700_000_003.5, 3.5, 7, is_whole=True)
    path.write_bytes(b"".join(pack(header, state, ring.since(0))))
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_each_step_is_shown_with_what_came_of_it(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_recording(recorded, PLAIN) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    steps = [line for line in lines if "#" in line.split(" ", 2)[1]]
    assert [line.split()[1] for line in steps] == ["#7", "#8", "#9", "#11"], (
        "a tick that changed nothing is left out"
    )
    assert "RegisterSlave" in steps[0]
    assert "hostname=node1" in steps[0]
    assert any(line.startswith("    -> Send") and "ResourceOffers" in line for line in lines)
    assert "recording of a master until" in said.err
    assert "it was made by offerd 0.0.1" in said.err


def test_grep_and_until_select_steps(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_recording(recorded, PLAIN._replace(grep="job"))
    assert [line.split()[1] for line in printed(capsys) if not line.startswith(" ")] == ["#8"]
    print_recording(recorded, PLAIN._replace(until_s=1.0))
    assert [line.split()[1] for line in printed(capsys) if not line.startswith(" ")] == ["#7", "#8", "#9"]
    print_recording(recorded, PLAIN._replace(has_ticks=True))
    assert any(line.split()[1:] == ["#10", "tick"] for line in printed(capsys))


def test_json_is_a_document_for_each_step(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_recording(recorded, PLAIN._replace(is_json=True))
    said = capsys.readouterr()
    steps = [json.loads(line) for line in said.out.splitlines()]
    assert [step["number"] for step in steps] == [7, 8, 9, 11]
    assert steps[0]["at"] == pytest.approx(1_700_000_001.0)
    assert said.err == ""


def test_events_without_a_state_are_shown_without_actions(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = Ring(10, 1 << 20)
    ring.note(1.0, PeerLost(PeerID(b"x")))
    path = tmp_path / "b.recording"
    header = Header("master", "0.0.1", "a test", 1_700_000_003.5, 3.5, 7, is_whole=False)
    path.write_bytes(b"".join(pack(header, (), ring.since(0))))
    print_recording(path, PLAIN)
    said = capsys.readouterr()
    assert "PeerLost" in said.out
    assert "the state before the first event is missing" in said.err


def test_every_message_and_event_may_be_in_a_recording() -> None:
    messages = {*codec.to_master.types, *codec.to_slave.types, *codec.from_executor.types}
    events = {
        each
        for module in (master_events, slave_events)
        for each in vars(module).values()
        if isinstance(each, type)
    }
    assert {
        each.__module__
        for each in messages | events
        if issubclass(each, msgspec.Struct) and not is_part(each.__module__)
    } == set()


@pytest.mark.parametrize(
    "module",
    [
        "os",
        "subprocess",
        "offerd.driver",
        "offerd_slave.removal",
        "offerd_master.daemon",
        "offerd_master.corex",
    ],
)
def test_a_recording_holds_only_classes_that_compute(module: str) -> None:
    assert not is_part(module)


def test_an_unreadable_recording_is_bad_input(tmp_path: Path, recorded: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        print_recording(tmp_path / "missing", PLAIN)
    (tmp_path / "text").write_text("no recording")
    with pytest.raises(BadInput, match="not a recording"):
        print_recording(tmp_path / "text", PLAIN)
    data = recorded.read_bytes().replace(b"offerd_master.core.master", b"offerd_cli.commands.debug")
    (tmp_path / "hostile").write_bytes(data)
    with pytest.raises(BadInput, match="does not belong in one"):
        print_recording(tmp_path / "hostile", PLAIN)
