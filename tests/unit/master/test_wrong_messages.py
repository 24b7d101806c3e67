"""Well-formed but wrong messages from peers of every kind: honest peers do not notice them."""

from __future__ import annotations

import typing

import pytest

from helpers.bounded import Maker
from helpers.master_harness import ClusterHarness, Peer, task
from offerd import messages as m
from offerd.errors import BadMessage
from offerd.ids import FrameworkID, SlaveID
from offerd.messages import TaskState
from offerd.wire import codec

KINDS = codec.to_master.types
REGISTRATIONS = (m.RegisterSlave, m.RegisterFramework)


@pytest.mark.parametrize("seed", range(60))
def test_honest_peers_do_not_notice_wrong_messages(seed: int) -> None:
    maker = Maker(seed)
    registrations = [maker.message(REGISTRATIONS) for _ in range(maker.random.randint(0, 3))]
    senders = ["stranger", "slave", "framework", "operator"]
    wrong = [(maker.random.choice(senders), maker.message(KINDS)) for _ in range(25)]
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
    for registration in registrations:
        bad["stranger"].send(registration)
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
    """Decodes messages for schedulers, slaves and operators, since a bad peer may become any of these."""

    def decode(self, frame: bytes) -> tuple[int, list[m.Message]]:
        for one in (codec.to_scheduler, codec.to_slave, codec.to_operator):
            try:
                return typing.cast("tuple[int, list[m.Message]]", one.decode(frame))
            except BadMessage:
                continue
        raise AssertionError("the master sent what nobody can read")


ANY_DIRECTION = AnyDirection()
