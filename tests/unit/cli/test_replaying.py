"""`offerd debug replay`: what is shown of a recording."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from helpers.recorded_core import RecordedCore
from offerd import messages as m
from offerd.daemons.object_graph import Ref
from offerd.daemons.recording import FORMAT, Header, Ring, pack, pack_state
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
        if issubclass(each, msgspec.Struct) and not is_part(each.__module__, "class")
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
    assert not is_part(module, "class")
    assert not is_part(module, "function")


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


def hostile(tmp_path: Path, *values: Any, **header: Any) -> Path:
    """A file of a header, changed like this, and these values."""
    said = {
        "recording": FORMAT,
        **Header("master", "1", "x", 1e9, 1.0, 0, is_whole=False)._asdict(),
        **header,
    }
    path = tmp_path / "hostile.recording"
    path.write_bytes(b"".join(value if type(value) is bytes else packed(value) for value in (said, *values)))
    return path


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value, default=lambda ref: msgpack.ExtType(1, ref.number.to_bytes(4, "big"))))


def test_a_hostile_state_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    witness = tmp_path / "witness"
    state = [
        ["object", Ref(1), "cluster", Ref(2)], ["class", "offerd_master.core.master", "MasterCore"],
        ["object", Ref(1), "peers", Ref(3)], ["object", Ref(1), "get", Ref(8)], ["path", "x"],
        ["method", Ref(4), "_flavour"], ["method", Ref(5), "pathmod"], ["method", Ref(6), "os"],
        ["method", Ref(7), "system"],
    ]  # fmt: skip
    order = [["struct", Ref(1), f"touch {witness}"], ["class", "offerd_master.core.events", "PeerLost"]]
    with pytest.raises(BadInput, match="not a recorded state"):
        print_recording(hostile(tmp_path, *state, None, [1.0, order], is_whole=True), PLAIN)
    assert not witness.exists()


def test_what_is_gone_on_with_is_the_core_of_a_daemon(tmp_path: Path) -> None:
    state = [["object", Ref(1)], ["class", "offerd_master.core.pool", "Pool"]]
    with pytest.raises(BadInput, match="not a recording of a master or slave"):
        print_recording(hostile(tmp_path, *state, None, is_whole=True), PLAIN)


@pytest.mark.parametrize(
    "header",
    [
        {"written_at": "x"}, {"written_at": math.nan}, {"written_at": None}, {"first": "x"}, {"now": None},
        {"now": math.inf}, {"why": ["a"]}, {"version": 5}, {"who": 1}, {"is_whole": 3},
    ],
)  # fmt: skip
def test_a_header_of_other_types_is_refused_in_one_line(tmp_path: Path, header: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        print_recording(hostile(tmp_path, **header), PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "step",
    [
        [1e300, None], [math.nan, None], [math.inf, None], [1 << 63, None], [-1e300, None], 10**18, {"a": {"b": 1}},
        b"\x81\x90\x90", b"\xc7\x20\x01" + bytes(32), b"\xd4\x02\x00", b"\x91" * 100_000,
    ],
)  # fmt: skip
def test_a_hostile_step_is_refused_in_one_line_with_a_reason(tmp_path: Path, step: Any) -> None:
    with pytest.raises(BadInput) as caught:
        print_recording(hostile(tmp_path, step), PLAIN)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).rstrip().endswith(":")


def test_values_that_contain_each_other_are_shown_up_to_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laughs = [["list", *[Ref(number + 1)] * 20] for number in range(9)] + [["list"]]
    print_recording(hostile(tmp_path, [1.0, [["list", Ref(0)]]], [2.0, laughs]), PLAIN)
    lines = printed(capsys)
    assert len(lines) == 2
    assert all(len(line) < 500 for line in lines)


def test_times_that_no_calendar_has_are_dashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = Ring(10, 1 << 20)
    ring.note(1.0, PeerLost(PeerID(b"x")))
    header = Header("master", "0.0.1", "a test", 1e30, 3.5, 7, is_whole=False)
    path = tmp_path / "late.recording"
    path.write_bytes(b"".join(pack(header, (), ring.since(0))))
    assert print_recording(path, PLAIN) == 0
    assert printed(capsys)[0].startswith("--")


def test_what_a_core_raises_cannot_steer_the_terminal(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> list[Any]:
        raise LookupError("\x1b[31mRED\x07\nforged 12:00:00 line")

    monkeypatch.setattr(MasterCore, "handle", fails)
    print_recording(recorded, PLAIN)
    said = capsys.readouterr().out
    assert "!! LookupError" in said
    assert "\x1b" not in said
    assert "\x07" not in said
    assert not any(line.startswith("forged") for line in said.splitlines())


def test_full_shows_all_of_a_long_event(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_recording(recorded, PLAIN._replace(is_full=True))
    assert "..." not in capsys.readouterr().out


def test_a_text_that_no_step_mentions_is_said_so(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_recording(recorded, PLAIN._replace(grep="zzzz"))
    assert "no step mentions zzzz (5 steps)" in capsys.readouterr().err


def test_a_reader_that_leaves_is_not_called_a_fault_of_the_file(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaves(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", leaves)
    with pytest.raises(BrokenPipeError):
        print_recording(recorded, PLAIN)
