"""Whole clusters, each from one seed, under faults: every task ends once, and the accounts come out even."""

from __future__ import annotations

import pytest

from helpers.sim_cluster import World
from helpers.sim_runs import check, settle, under_faults


@pytest.mark.parametrize("seed", range(20))
def test_without_faults_every_task_ends_once(seed: int) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=40)
    settle(world)
    check(world, seed)


@pytest.mark.parametrize("seed", range(60))
def test_under_partitions_reboots_and_two_masters_every_task_ends_once(seed: int) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=30)
    with under_faults(world, seed, world.worse_fault):
        settle(world)
    check(world, seed)


@pytest.mark.parametrize("seed", range(40))
def test_with_patience_and_messages_repeated_and_late_every_task_ends_once(seed: int) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=30, repeats=True, patience_s=40.0)
    with under_faults(world, seed, world.worse_fault):
        settle(world)
    check(world, seed)


@pytest.mark.parametrize("seed", range(100))
def test_under_faults_every_task_ends_once_and_starts_at_most_once(seed: int) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=40)
    with under_faults(world, seed):
        settle(world)
    check(world, seed)
