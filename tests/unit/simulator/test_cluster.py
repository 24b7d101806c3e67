"""The cluster in virtual time: both kinds of slaves, a master that takes time, and frameworks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from offerd import messages as m
from offerd.messages import Offer, Reason, TaskState, TaskStatus
from offerd.resources import Resources
from offerd_simulator.cluster import Cluster
from offerd_simulator.engine import Engine
from offerd_simulator.frameworks.base import SLOT, Framework, SimulatedTask
from offerd_simulator.frameworks.delay import OFFER_AGAIN_S, Scan
from offerd_simulator.frameworks.gangs import Gang, Gangs
from offerd_simulator.frameworks.jobs import Job, Jobs, Stage
from offerd_simulator.frameworks.slots import free_slots
from offerd_simulator.slaves import add_slaves
from offerd_simulator.statistics import stream

Ending = tuple[str, str, str, float]


class Script(Framework):
    """Launches the given tasks, as many as fit, and notes how each ends."""

    def __init__(self, cluster: Cluster, plan: list[tuple[str, float, float | None]]) -> None:
        self.plan = plan
        self.ends: list[Ending] = []
        super().__init__("script", cluster)

    def wants_more(self) -> bool:
        return bool(self.plan)

    def choose(self, offer: Offer) -> list[SimulatedTask]:
        chosen = []
        for _ in range(min(free_slots(offer), len(self.plan))):
            name, duration_s, limit_s = self.plan.pop(0)
            chosen.append(self.new_task(duration_s, SLOT, limit_s, name))
        return chosen

    def task_ended(self, task: SimulatedTask, status: TaskStatus) -> None:
        ran_s = round(self.engine.now - task.launched_at, 1)
        self.ends.append((str(task.owner), status.state.value, status.reason, ran_s))


def cluster_of(slaves: int, slots: int, *, real: bool = False, **info: float) -> Cluster:
    cluster = Cluster(Engine())
    resources = Resources.of(cpus=slots, mem=f"{slots}G")
    info.setdefault("long_fraction", 1.0)
    add_slaves(
        cluster,
        [m.SlaveInfo(f"node{i}", resources, **info) for i in range(slaves)],  # type: ignore[arg-type]
        real=real,
    )
    return cluster


@pytest.mark.parametrize("real", [False, True], ids=["model", "core"])
def test_a_slave_ends_tasks_by_themselves_by_their_limit_and_by_a_kill(real: bool) -> None:
    cluster = cluster_of(1, 4, real=real, long_fraction=0.5, short_limit_s=20.0)
    plan = [("own", 3.0, 10.0), ("limit", 30.0, 5.0), ("killed", math.inf, 15.0), ("long", 8.0, None)]
    script = Script(cluster, plan)
    cluster.engine.run(2.0)
    (killed,) = (task for task in script.tasks.values() if task.owner == "killed")
    cluster.engine.at(7.0, script.kill, killed)
    cluster.engine.run(60.0)
    assert sorted(script.ends) == sorted(
        [
            ("own", TaskState.FINISHED.value, "", 3.0),
            ("limit", TaskState.KILLED.value, Reason.TASK_TIMEOUT.value, 5.0),
            ("killed", TaskState.KILLED.value, Reason.KILLED_BY_FRAMEWORK.value, 7.0),
            ("long", TaskState.FINISHED.value, "", 8.0),
        ]
    )
    assert script.finished == 2
    assert script.timed_out == 1
    assert script.wasted_s == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("real", [False, True], ids=["model", "core"])
def test_a_slave_keeps_long_tasks_to_their_part(real: bool) -> None:
    cluster = cluster_of(1, 4, real=real, long_fraction=0.5)
    script = Script(cluster, [(f"long{i}", 5.0, None) for i in range(4)])
    cluster.engine.run(30.0)
    states = sorted(state for _, state, _, _ in script.ends)
    assert states == [TaskState.FINISHED.value] * 2 + [TaskState.LOST.value] * 2


@pytest.mark.parametrize("real", [False, True], ids=["model", "core"])
def test_a_framework_that_leaves_gives_everything_back(real: bool) -> None:
    cluster = cluster_of(2, 2, real=real)
    script = Script(cluster, [(f"t{i}", math.inf, 1e6) for i in range(4)])
    cluster.engine.run(1.0)
    assert cluster.core.cluster.tasks_running == 4
    script.leave()
    cluster.engine.run(20.0)
    assert cluster.core.cluster.tasks_running == 0
    assert all(slave.free.freeze() == slave.total for slave in cluster.core.cluster.slaves.values())


def test_a_master_that_computes_is_busy_for_as_long() -> None:
    ticks: Iterator[float] = iter(x * 0.25 for x in range(10_000))
    cluster = Cluster(Engine(), clock=lambda: next(ticks))
    add_slaves(cluster, [m.SlaveInfo("node", SLOT)])
    script = Script(cluster, [("only", 1.0, 10.0)])
    cluster.engine.run(60.0)
    ((_, state, _, ran_s),) = script.ends
    assert state == TaskState.FINISHED.value
    # Between launch and end are at least two turns (the accept's and the end's) of a quarter of a second each.
    assert ran_s >= 1.5
    assert cluster.longest_turn_s == 0.25
    assert cluster.busy_s >= 1.0


def test_a_gang_starts_when_it_is_complete_and_the_next_waits_below_the_cap() -> None:
    cluster = cluster_of(2, 2)
    blocker = Script(cluster, [("blocker", 10.0, 50.0)])
    cluster.engine.run(1.0)
    gangs = Gangs("gangs", cluster, cap=4)
    first, second = Gang("first", 4, 20.0, SLOT), Gang("second", 2, 5.0, SLOT)
    gangs.submit(first)
    gangs.submit(second)
    cluster.engine.run(60.0)
    assert blocker.finished == 1
    assert first.started_at == pytest.approx(10.0, abs=0.1)
    assert first.ended_at == pytest.approx(30.0, abs=0.1)
    assert second.waited_s == pytest.approx(29.0, abs=0.1)
    assert gangs.held.value == 0


def test_a_stage_begins_when_the_one_before_has_ended_and_jobs_share_slots() -> None:
    cluster = cluster_of(1, 4)
    jobs = Jobs("jobs", cluster, stream(1, "test"))
    small = Job("small", [Stage(1, 10.0, SLOT)])
    large = Job("large", [Stage(8, 10.0, SLOT), Stage(1, 5.0, SLOT)])
    jobs.submit(large)
    cluster.engine.run(1.0)
    jobs.submit(small)
    cluster.engine.run(100.0)
    # The small job gets the first free slot, because it has fewer running tasks.
    assert small.took_s == pytest.approx(19.0, abs=0.2)
    assert large.took_s == pytest.approx(35.0, abs=0.2)


def test_frameworks_share_a_cluster_by_halves() -> None:
    cluster = cluster_of(10, 4)
    jobs = [Jobs(f"jobs{i}", cluster, stream(1, i)) for i in range(2)]
    for framework in jobs:
        framework.submit(Job("work", [Stage(400, 5.0, SLOT, spread=0.3)]))
    cluster.engine.run(60.0)
    shares = [framework.held.mean(20.0, 60.0) / 40_000 for framework in jobs]
    assert shares == pytest.approx([0.5, 0.5], abs=0.03)


@pytest.mark.parametrize(("delay_s", "local"), [(0.0, 0), (3.0, 0), (60.0, 1)])
def test_delay_scheduling_waits_for_the_node_that_has_the_block(delay_s: float, local: int) -> None:
    cluster = cluster_of(2, 1)
    blocker = Script(cluster, [("blocker", 20.0, None)])
    cluster.engine.run(1.0)
    (task,) = blocker.tasks.values()
    host = cluster.core.cluster.slaves[task.slave_id].info.hostname
    scan = Scan(
        "scan", cluster, [[host]], delay_s=delay_s, local_s=2.0, remote_s=4.0, spread=0.0, source=stream(2)
    )
    cluster.engine.run(120.0)
    assert (scan.local, scan.remote) == (local, 1 - local)
    assert scan.ended_at is not None
    began_s = scan.ended_at - scan.started_at - (2.0 if local else 4.0)
    expected_s = 19.0 if local else delay_s
    assert expected_s - 0.1 <= began_s <= expected_s + OFFER_AGAIN_S + 0.2
