"""Whole clusters, each from one seed, under faults: every task ends once, and the accounts come out even."""

from __future__ import annotations

import pytest

from helpers.sim_cluster import World


def settle(world: World) -> None:
    """All tasks ended, and everything given back."""
    world.run(lambda: all(len(s.ended) == len(s.tasks) for s in world.schedulers), limit_s=3_000)
    world.run(lambda: not any(node.core.state.tasks for node in world.slaves if node.up), limit_s=3_000)


def check(world: World, seed: int) -> None:
    for scheduler in world.schedulers:
        assert not scheduler.errors, f"seed {seed}"
        for task_id, statuses in scheduler.ended.items():
            assert len(statuses) == 1, (
                f"seed {seed}: {task_id} ended {[(s.state, s.reason) for s in statuses]}"
            )
    starts = [task_id for node in world.slaves for _, task_id in node.ran]
    assert len(starts) == len(set(starts)), f"seed {seed}: a task was started twice"


@pytest.mark.parametrize("seed", range(20))
def test_without_faults_every_task_ends_once(seed: int) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=40)
    settle(world)
    check(world, seed)


@pytest.mark.parametrize("seed", range(100))
def test_under_faults_every_task_ends_once_and_starts_at_most_once(seed: int) -> None:
    world = World(seed, slaves=3, schedulers=2, tasks=40)
    for _ in range(world.random.randrange(3, 12)):
        until = world.now + world.random.uniform(0.05, 4.0)
        world.at(until - world.now, lambda: None)
        world.run(lambda until=until: world.now >= until, limit_s=10.0)  # type: ignore[misc]
        world.fault()
    settle(world)
    check(world, seed)
