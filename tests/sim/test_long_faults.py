"""Clusters under harder faults (`helpers.sim_hard`), each from one seed: every task ends once, also for later schedulers of its
framework, and no task that was called lost runs. Half of the clusters lose masters, the others lose schedulers.

The number of seeds is a twenty-fifth of OFFERD_SIM_SEEDS, because these runs are long.
"""

from __future__ import annotations

import os

import pytest

from helpers.sim_hard import CALM_S, LATE_S, HardWorld
from helpers.sim_runs import check, settle
from offerd.messages import Reason

SEEDS = max(10, int(os.environ.get("OFFERD_SIM_SEEDS", "100")) // 25)
CHUNK = 10


def live_through(seed: int, *, masters: bool, schedulers: bool) -> HardWorld:
    """Faults for minutes; then everything is repaired and comes to its end."""
    world = HardWorld(seed, slaves=4, schedulers=2, tasks=14, patience_s=60.0 if seed % 3 == 0 else 0.0)
    try:
        for _ in range(world.random.randrange(5, 20)):
            world.pass_time(world.random.uniform(0.5, 45.0))
            world.hard_fault(masters=masters, schedulers=schedulers)
        world.mend()
        world.pass_time(CALM_S)
        assert world.lost_and_running() == []
        settle(world)
        world.pass_time(LATE_S)
        assert world.lost_and_running() == []
        assert world.contradictions() == []
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    check(world, seed)
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_after_absences_of_minutes_every_task_has_ended_once_and_none_that_was_lost_runs(first: int) -> None:
    reasons, successors = set(), 0
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world = live_through(seed, masters=seed % 2 == 0, schedulers=seed % 2 == 1)
        reasons |= {status.reason for status in world.ends()}
        successors += sum(node.life - 1 for node in world.mortals)
    assert {Reason.SLAVE_LOST, Reason.SLAVE_DRAINING} <= reasons, "this test has become too tame"
    assert successors, "no scheduler has followed another one: this test has become too tame"
