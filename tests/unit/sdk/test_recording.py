"""Recordings of cores: they can be replayed, with the same actions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgpack
import pytest
from msgspec.structs import replace

from helpers.recorded_core import RecordedCore
from helpers.sim_cluster import World
from helpers.sim_runs import settle, under_faults
from offerd.daemons.object_graph import flatten
from offerd.daemons.recording import FORMAT, Header, Ring, Step, pack, pack_state
from offerd.daemons.recording_reader import Recording, replay
from offerd.errors import BadInput
from offerd.files_access import FilesSecret, access_to
from offerd.ids import PeerID
from offerd.messages import RegisterSlave, SlaveInfo
from offerd.resources import Resources
from offerd_cli.replaying import is_part
from offerd_master.core.events import Received


def header(first: int = 0, *, is_whole: bool = True) -> Header:
    return Header("master", "1.2", "a test", 1.5, 0.5, first, is_whole)


def recorded(seed: int, faults: int) -> tuple[bytes, list[str]]:
    """A cluster's master, recorded from some moment on while links break; and its actions."""
    world = World(seed, slaves=4, schedulers=3, tasks=30)
    begin = world.now + 0.4
    world.at(0.5, lambda: None)
    world.run(lambda: world.now >= begin, 10.0)
    ring = Ring(1_000_000, 1 << 30)
    state = list(pack_state(world.master.core))
    watched: Any = RecordedCore(world.master.core, ring)
    world.master.core = watched
    for _ in range(faults):
        until = world.now + 0.3
        world.at(0.4, lambda: None)
        world.run(lambda until=until: world.now >= until, 10.0)  # type: ignore[misc]
        world.random.choice(world.clients()).link.break_()
    return b"".join(pack(header(), state, ring.since(0))), watched.answers


@pytest.mark.parametrize("seed", range(10))
def test_a_masters_recording_gives_the_same_actions_again(seed: int) -> None:
    data, answers = recorded(seed, faults=4)
    recording = Recording(io.BytesIO(data), is_part)
    again = [repr(actions) for _, actions in replay(recording.core, recording.steps())]
    assert len(again) > 50
    assert again == answers
    assert not recording.is_cut


def test_the_secrets_of_file_servers_are_left_out_of_states_and_events() -> None:
    secret = FilesSecret(b"s" * 32, 7, "ab")
    access = access_to(secret.secret, 7, "10.0.0.9:80", "ab", "alice", operator=False)
    info = SlaveInfo("node1", Resources.parse("cpus=1"))
    event = Received(PeerID(b"p"), RegisterSlave(info, files=secret), "")
    core = {"files": secret, "files_accesses": {"owner:alice": access}}
    data = b"".join(pack(header(), list(pack_state(core)), [Step(1.0, event)]))
    assert secret.secret not in data
    assert access.key not in data
    recording = Recording(io.BytesIO(data), is_part)
    without = replace(secret, secret=bytes(32))
    assert recording.core == {
        "files": without,
        "files_accesses": {"owner:alice": replace(access, key=bytes(32))},
    }
    assert [step.event for step in recording.steps()] == [
        Received(PeerID(b"p"), RegisterSlave(info, files=without), "")
    ]


def test_a_truncated_recording_can_be_read_up_to_there() -> None:
    data, answers = recorded(1, faults=1)
    recording = Recording(io.BytesIO(data[:-3]), is_part)
    again = [repr(actions) for _, actions in replay(recording.core, recording.steps())]
    assert again == answers[:-1]
    assert recording.is_cut


def test_an_error_of_the_core_is_the_answer_of_its_step() -> None:
    class Fragile:
        def handle(self, event: Any, now: float) -> list[Any]:
            raise KeyError(event)

        def tick(self, now: float) -> list[Any]:
            return [now]

    said = [answer for _, answer in replay(Fragile(), [Step(1.0, None), Step(2.0, "x"), Step(3.0, None)])]
    assert said[0] == [1.0]
    assert isinstance(said[1], KeyError)
    assert said[2] == [3.0]


def test_the_ring_keeps_the_latest_steps_and_counts_all() -> None:
    ring = Ring(max_steps=3, max_bytes=1 << 20)
    for number in range(5):
        ring.note(float(number), number)
    assert (ring.first, ring.next) == (2, 5)
    assert list(ring.since(0)) == list(ring.since(2)) == [(2.0, 2), (3.0, 3), (4.0, 4)]
    assert list(ring.since(4)) == [(4.0, 4)]
    assert list(ring.since(5)) == []


def test_the_ring_holds_no_more_bytes_than_it_may() -> None:
    ring = Ring(max_steps=100, max_bytes=1000)
    for number in range(10):
        ring.grew(300)
        ring.note(float(number), number)
    assert (ring.first, ring.next) == (7, 10)
    ring.grew(5000)
    ring.note(10.0, "large")
    assert ring.first == ring.next == 11
    ring.note(11.0, "small")
    assert list(ring.since(0)) == [(11.0, "small")]


def test_a_recording_without_a_state_has_its_steps() -> None:
    data = b"".join(pack(header(7, is_whole=False), (), [Step(1.0, None), Step(2.0, "event")]))
    recording = Recording(io.BytesIO(data), is_part)
    assert recording.core is None
    assert recording.header == header(7, is_whole=False)
    assert list(recording.steps()) == [(1.0, None), (2.0, "event")]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text of some kind", msgpack.packb({"recording": FORMAT + 1}), msgpack.packb({"recording": FORMAT, "who": 1}),
        msgpack.packb([1]), b"\xc1", b"".join(pack(header(), (), ())), b"".join(pack(header(), [b"\x93"], ())),
        b"".join(pack(header(), [msgpack.packb(["list", 3]), msgpack.packb([1]), msgpack.packb(None)], ())),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_recording_is_bad_input(data: bytes) -> None:
    with pytest.raises(BadInput, match="record"):
        Recording(io.BytesIO(data), is_part)


@pytest.mark.parametrize(
    "step", [3, [1], ["x", None], [1.0, 3], [1.0, [["class", "os", "system"]]], {"a": 1}]
)
def test_an_invalid_step_is_bad_input(step: Any) -> None:
    data = b"".join(pack(header(is_whole=False), (), [])) + msgpack.packb(step)
    with pytest.raises(BadInput, match="record"):
        list(Recording(io.BytesIO(data), is_part).steps())


@pytest.mark.parametrize("seed", range(6))
def test_every_core_of_a_simulated_cluster_can_be_replayed(seed: int, tmp_path: Path) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=12)
    with under_faults(world, seed, world.worse_fault):
        settle(world)
    world.write_recordings(tmp_path)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) >= 4
    for path in paths:
        with path.open("rb") as file:
            recording = Recording(file, is_part)
            assert [
                error
                for _, error in replay(recording.core, recording.steps())
                if isinstance(error, Exception)
            ] == []
    last = {node.core.state.info.hostname: list(flatten(node.core)) for node in world.slaves if node.up}
    for node in world.slaves:
        with (tmp_path / f"{node.steps.name}.recording").open("rb") as file:
            recording = Recording(file, is_part)
            for _ in replay(recording.core, recording.steps()):
                pass
        assert not node.up or list(flatten(recording.core)) == last[node.name], "it ends in another state"


def test_what_fails_in_a_simulated_cluster_says_where_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    world = World(1, slaves=1, schedulers=1, tasks=1)
    with pytest.raises(AssertionError, match="offerd debug replay") as failed, under_faults(world, 1):
        raise AssertionError("for a test")
    assert "seed 1: for a test" in str(failed.value)
    assert len(list(tmp_path.rglob("*.recording"))) >= 2
