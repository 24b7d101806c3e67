"""Extreme messages from master and executors against the slave's core: everything that it writes and sends can be encoded, and
a core can be restored from what it has written.
"""

from __future__ import annotations

import os
import random

import pytest

from helpers.hostile_messages import Choices, Hostile
from helpers.slave_bench import COMMAND, FRAMEWORK, Bench, task
from offerd import messages as m
from offerd.errors import BadMessage
from offerd.ids import ContainerID
from offerd.wire import codec
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev
from offerd_slave.journal import frame, parse

MESSAGES = min(100_000, int(os.environ.get("OFFERD_FUZZ_MESSAGES", "20000")) // 4)
LIVES = 20
TASKS = ("a", "b", "c")


def names(bench: Bench) -> dict[str, list[str]]:
    """Names that mean something to this slave."""
    return {
        "container_id": [*bench.core.state.containers, "never"],
        "framework_id": [FRAMEWORK.framework_id, "F-2"],
        "slave_id": ["S-1"],
        "executor_id": [COMMAND.executor_id, "another"],
        "task_id": [*TASKS, "d"],
        "task_ids": [*TASKS, "d"],
        "updates": [*TASKS, "d"],
        "mode": ["active", "deactivated"],
        "token": ["token"],
        "module": [COMMAND.module],
    }


def live(bench: Bench, chance: random.Random, count: int) -> int:
    """Send this slave up to `count` messages; returns how many of them could be decoded."""
    heard = 0
    bench.register()
    bench.run(*map(task, TASKS))
    for _ in range(count):
        container_id = chance.choice([*bench.core.state.containers, ContainerID("never")])
        is_masters = chance.random() < 0.5
        spoken: codec.Codec[m.Message] = codec.to_slave if is_masters else codec.from_executor  # type: ignore[assignment]
        hostile = Hostile(spoken, names(bench), well_formed=chance.random() < 0.9)
        try:
            epoch, messages = spoken.decode(hostile.frame(Choices(chance.randbytes(200))))
        except BadMessage:
            continue
        for message in messages:
            heard += 1
            if is_masters:
                bench.event(ev.FromMaster(epoch, message))
            else:
                bench.event(ev.FromExecutor(container_id, message))
        for action in bench.others:
            if isinstance(action, act.DestroyContainer):
                bench.event(ev.ContainerDestroyed(action.container_id))
        bench.clear()
        bench.turn(chance.choice([0.0, 0.1, 40.0]))
        if not bench.core.state.containers:
            bench.run(*map(task, TASKS))
        if chance.random() < 0.5 and (containers := list(bench.core.state.containers)):
            bench.from_executor(containers[0], m.RegisterExecutor(containers[0], "token", [], list(TASKS)))  # type: ignore[arg-type]
    return heard


@pytest.mark.timeout(120 + MESSAGES // 50)
@pytest.mark.parametrize("seed", range(LIVES))
def test_no_message_makes_the_core_raise_or_emit_what_cannot_be_encoded(seed: int) -> None:
    chance = random.Random(seed)
    bench, heard = Bench(), 0
    while heard < MESSAGES // LIVES:
        heard += live(bench, chance, 50)
        records, damages = parse(frame(bench.disk))
        assert (records, damages) == (bench.disk, [])
        bench.disk = records
        bench = bench.crash(is_damaged=chance.random() < 0.2)
