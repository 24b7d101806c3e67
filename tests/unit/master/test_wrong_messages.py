"""Messages that are well-formed and wrong, from peers of every kind: honest peers notice nothing."""

from __future__ import annotations

import types
import typing
from enum import Enum
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.master_harness import ClusterHarness, Peer, task
from offerd import codec
from offerd import messages as m
from offerd.errors import BadMessage
from offerd.ids import FrameworkID, SlaveID
from offerd.messages import TaskState
from offerd.resources import Resources

TEXT = st.one_of(
    st.sampled_from(
        ["", "x", "F-9-1", "S-9-1", "t1", "default", "../..", "a b", "\n", "x" * 200, "x" * 100_000]
    ),
    st.text(max_size=10),
)
QUANTITY = st.one_of(st.integers(1, 5000), st.integers(1, (1 << 63) - 1))
RESOURCES = st.builds(
    Resources,
    st.dictionaries(st.sampled_from(["cpus", "mem", "x" * 50]), QUANTITY, max_size=2),
    st.one_of(
        st.just({}), st.builds(lambda a, n: {"ports": [(a, a + n)]}, st.integers(0, 1 << 62), QUANTITY)
    ),
    st.one_of(st.just({}), st.just({"disks": ["a", "b"]})),
)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that messages are made of."""
    origin = get_origin(kind)
    if kind is Resources:
        return RESOURCES
    if kind is str or isinstance(kind, typing.NewType):
        return TEXT
    if kind is int:
        return st.integers(-(1 << 63), (1 << 63) - 1)
    if kind is float:
        return st.floats()
    if kind is bytes:
        return st.binary(max_size=20)
    if kind is bool:
        return st.booleans()
    if kind is type(None):
        return st.none()
    if origin is list:
        return st.lists(of_type(get_args(kind)[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(*map(of_type, get_args(kind)), max_size=2)
    if origin is tuple:
        return st.tuples(*map(of_type, get_args(kind)))
    if origin in (Union, types.UnionType):
        return st.one_of(*map(of_type, get_args(kind)))
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return of_struct(kind)


def of_struct(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(
        kind, **{field.name: of_type(hints[field.name]) for field in msgspec.structs.fields(kind)}
    )


def fits_a_frame(message: Any) -> bool:
    """Whether it travels: what is out of bounds never reaches a core."""
    encoded = codec.encode_message(message)
    try:
        msgspec.msgpack.decode(encoded, type=type(message))
    except msgspec.ValidationError:
        return False
    return len(encoded) < codec.MAX_MESSAGE_BYTES


ANYTHING = st.deferred(
    lambda: st.one_of(*(of_struct(kind) for kind in get_args(codec.ToMaster))).filter(fits_a_frame)
)
HELLOS = st.deferred(
    lambda: st.one_of(of_struct(m.RegisterSlave), of_struct(m.RegisterFramework)).filter(fits_a_frame)
)


# A message too large for a frame is drawn anew, and Hypothesis then notes the whole strategy's text, which is long.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["stranger", "slave", "framework", "operator"]), ANYTHING), max_size=12
    ),
    st.lists(HELLOS, max_size=3),
)
def test_honest_peers_notice_nothing_of_wrong_messages(
    wrong: list[tuple[str, m.Message]], hellos: list[m.Message]
) -> None:
    cluster = ClusterHarness(checks_invariants=False)
    slave = cluster.slave("cpus=1,mem=1G")
    framework = cluster.framework()
    framework.accept(framework.offer(), tasks=[task("honest")])
    slave.take(m.RunTasks)
    bad: dict[str, Peer] = {
        "stranger": cluster.slave(registers=False),
        "slave": cluster.slave(),
        "framework": cluster.framework("bad"),
        "operator": cluster.operator(),
    }
    for peer in bad.values():
        peer.decoder = ANY_DIRECTION
    for hello in hellos:
        bad["stranger"].send(hello)
    for who, message in wrong:
        bad[who].send(message)
    cluster.advance(70.0)
    framework.inbox.clear()
    slave.inbox.clear()
    slave.status(framework, "honest", TaskState.FINISHED)
    assert framework.update(TaskState.FINISHED).task_id == "honest"
    assert cluster.core.cluster.slaves[SlaveID(slave.slave_id)].peer == slave.peer
    assert FrameworkID(framework.framework_id) in cluster.core.cluster.frameworks


class AnyDirection:
    """Decodes what is for schedulers, slaves or operators: a bad peer may become either."""

    def decode(self, frame: bytes) -> tuple[int, list[m.Message]]:
        for one in (codec.to_scheduler, codec.to_slave, codec.to_operator):
            try:
                return typing.cast("tuple[int, list[m.Message]]", one.decode(frame))
            except BadMessage:
                continue
        raise AssertionError("the master sent what nobody can read")


ANY_DIRECTION = AnyDirection()
