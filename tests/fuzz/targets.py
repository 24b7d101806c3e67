"""What the coverage-guided fuzzer drives: decoders and cores in this process. Each takes bytes, and must not raise.

A finding is an exception: of a core, of the encoder that writes what a core wants to send, or of an invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers.hostile_messages import Choices, Hostile
from helpers.master_harness import ClusterHarness, FrameworkPeer, Peer, SlavePeer, task
from helpers.slave_bench import Bench
from helpers.slave_bench import task as slave_task
from offerd import messages as m
from offerd.core.scheduler_core import Deliver, SchedulerCore
from offerd.core.scheduler_core import Send as SendToMaster
from offerd.errors import BadMessage
from offerd.ids import ExecutorID, FrameworkID
from offerd.resources import Resources
from offerd.wire import codec
from offerd_master.core.actions import Action, Drop, Send
from offerd_master.core.events import PeerDropped, Signed
from offerd_master.principals import Principal

CODECS = ("to_master", "to_scheduler", "to_slave", "from_executor", "to_executor", "to_operator")
SPOILT = {name: Hostile(getattr(codec, name)) for name in CODECS}
STEPS = 12
PRINCIPALS = {
    "slave": Principal(name="host", slave=True),
    "framework": Principal(name="alice", roles=("*",), users=("nobody",)),
    "operator": Principal(name="ops", operator=True),
}


def decode(data: bytes) -> None:
    """Pass the bytes, and frames made of them that are often invalid, through each decoder."""
    for name in CODECS:
        spoken: codec.Codec[Any] = getattr(codec, name)
        for frame in (data, SPOILT[name].frame(Choices(data))):
            try:
                _, decoded = spoken.decode(frame)
            except BadMessage:
                continue
            for message in decoded:
                codec.encode_message(message)


class _Signing(ClusterHarness):
    """A harness in which messages are signed by principals."""

    hostile = False

    def hostile_turn(self, peer: Peer, message: Any, who: Principal) -> None:
        self.hostile = True
        self.turn(Signed(peer.peer, message, who))

    def _perform(self, actions: list[Action]) -> None:
        """After a hostile message a peer may be answered as another kind of peer, so answers are encoded but not decoded."""
        if not self.hostile:
            super()._perform(actions)
            return
        for action in actions:
            if isinstance(action, Send):
                next(codec.frames([action.message]))
            elif isinstance(action, Drop):
                self._perform(self.core.handle(PeerDropped(action.peer, action.why), self.now))


def master(data: bytes) -> None:
    """Hostile messages of a slave, a framework and an operator with keys to a master's core, with time passing in between."""
    choices = Choices(data)
    cluster = _Signing(checks_invariants=False)
    slave = cluster._peer(SlavePeer, codec.to_slave)
    slave.principal = PRINCIPALS["slave"]
    slave.info = m.SlaveInfo("host", Resources.parse("cpus=4,mem=4G,ports=[1-9]"))
    slave.register()
    framework = cluster._peer(FrameworkPeer, codec.to_scheduler)
    framework.principal = PRINCIPALS["framework"]
    framework.info = m.FrameworkInfo(
        "f", user="nobody", executors=[m.ExecutorInfo(ExecutorID("default"), "executor")]
    )
    framework.register()
    offer = framework.offer()
    framework.accept(offer, tasks=[task("t1")])
    operator = cluster.operator()
    operator.principal = PRINCIPALS["operator"]
    hostile = Hostile(
        codec.to_master,
        {
            "slave_id": [slave.slave_id],
            "framework_id": [framework.framework_id],
            "task_id": ["t1", "t2"],
            "executor_id": ["default"],
            "offer_ids": [
                o.offer_id for r in framework.inbox if isinstance(r, m.ResourceOffers) for o in r.offers
            ],
            "role": ["*"],
            "user": ["nobody", ""],
            "slave": ["host"],
            "framework": ["f"],
        },
        well_formed=True,
    )
    peers = {"slave": slave, "framework": framework, "operator": operator}
    for _ in range(STEPS):
        if choices.is_over:
            break
        role = choices.one_of(("slave", "framework", "framework", "operator"))
        for message in _decoded(codec.to_master, hostile, choices):
            cluster.hostile_turn(peers[role], message, PRINCIPALS[role])
        if choices.once_in(4):
            cluster.advance(choices.one_of((0.001, 1.0, 31.0, 100.0)))


def slave(data: bytes) -> None:
    """Hostile messages of an executor and a master to a slave's core."""
    choices = Choices(data)
    bench = Bench()
    container_id = bench.running(slave_task("t1"), slave_task("t2", limit_s=None))
    known: dict[str, list[str]] = {
        "task_id": ["t1", "t2"],
        "task_ids": ["t1", "t2"],
        "container_id": [container_id],
        "framework_id": ["F-1"],
        "executor_id": ["command"],
        "slave_id": ["S-1"],
        "token": ["token"],
    }
    executor = Hostile(codec.from_executor, known, well_formed=True)
    for _ in range(STEPS):
        if choices.is_over or bench.exited:
            break
        for message in _decoded(codec.from_executor, executor, choices):
            if container_id in bench.core.state.containers:
                bench.from_executor(container_id, message)
        if choices.once_in(4):
            bench.turn(choices.one_of((0.001, 1.0, 31.0, 700.0)))
    for record in bench.disk:
        codec.encode_message(record)
    if not bench.exited:
        bench.crash()


def scheduler(data: bytes) -> None:
    """Hostile messages of a master to a scheduler's core."""
    choices = Choices(data)
    core = SchedulerCore(m.FrameworkInfo("f", FrameworkID("F-1")))
    hostile = Hostile(
        codec.to_scheduler,
        {"framework_id": ["F-1"], "task_id": ["t1"], "slave_id": ["S-1"], "offer_id": ["O-1"]},
        well_formed=True,
    )
    now = 100.0
    core.start(now)
    for _ in range(STEPS):
        if choices.is_over:
            break
        for message in _decoded(codec.to_scheduler, hostile, choices):
            for action in (*core.handle(message, now), *core.tick(now)):
                if isinstance(action, SendToMaster):
                    codec.encode_message(action.message)
                elif isinstance(action, Deliver):
                    core.delivered(action.status)
            for acknowledgement in core.acknowledgements():
                codec.encode_message(acknowledgement)
        now += choices.one_of((0.0, 0.1, 20.0))


def _decoded(spoken: codec.Codec[Any], hostile: Hostile, choices: Choices) -> list[Any]:
    """The messages of a frame, if it is one."""
    try:
        return spoken.decode(hostile.frame(choices))[1]
    except BadMessage:
        return []


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decode": decode,
    "master": master,
    "slave": slave,
    "scheduler": scheduler,
}
