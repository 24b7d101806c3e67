"""Run a simulated cluster to its end, and check it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.sim_cluster import World


def settle(world: World) -> None:
    """Run until all tasks have ended and all resources are free."""
    world.run(lambda: all(len(s.ended) == len(s.tasks) for s in world.schedulers), limit_s=3_000)
    world.run(lambda: not any(node.core.state.tasks for node in world.slaves if node.up), limit_s=3_000)


@contextlib.contextmanager
def under_faults(world: World, seed: int, fault: Callable[[], None] | None = None) -> Iterator[None]:
    """First cause faults at random times; a failure in them or in the block names the seed that repeats it."""
    try:
        for _ in range(world.random.randrange(3, 12)):
            until = world.now + world.random.uniform(0.05, 4.0)
            world.at(until - world.now, lambda: None)
            world.run(lambda until=until: world.now >= until, limit_s=10.0)  # type: ignore[misc]
            (fault or world.fault)()
        yield
    except AssertionError as error:
        directory = Path(tempfile.mkdtemp(prefix=f"offerd-seed-{seed}-"))
        world.write_recordings(directory)
        text = f"seed {seed}: {error}\nwhat each core saw: offerd debug replay {directory}/*.recording"
        raise AssertionError(text) from error


def check(world: World, seed: int) -> None:
    """Check that every task ended once for its scheduler, and started at most once."""
    for scheduler in world.schedulers:
        assert not scheduler.errors, f"seed {seed}"
        for task_id, statuses in scheduler.ended.items():
            assert len(statuses) == 1, (
                f"seed {seed}: {task_id} ended {[(s.state, s.reason) for s in statuses]}"
            )
    starts = [task_id for node in world.slaves for _, task_id in node.ran]
    assert len(starts) == len(set(starts)), f"seed {seed}: a task was started twice"
