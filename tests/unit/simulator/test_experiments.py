"""Each experiment, small and with a fixed seed: compared with theory where there is one, otherwise with itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from offerd_simulator import experiments
from offerd_simulator.durations import Exponential, Uniform
from offerd_simulator.experiments import locality, long_tasks, macro, scale, table2
from offerd_simulator.frameworks.limited import Policy
from offerd_simulator.results import Options, Result, Table, document
from offerd_simulator.statistics import Estimate


def run(name: str, seed: int = 1) -> Result:
    seen: list[float] = []
    result = experiments.run(name, Options(seed, quick=True), lambda done, text: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    return result


def table(result: Result, key: str) -> list[dict[str, object]]:
    found: Table = next(table for table in result.tables if table.key == key)
    return [{column.key: cell for column, cell in zip(found.columns, row, strict=True)} for row in found.rows]


# -- Table 2 ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_table2() -> dict[tuple[int, str], table2.Sample]:
    samples = {}
    for k, distribution in itertools.product((4, 8), table2.DISTRIBUTIONS):
        sample = samples[k, distribution] = table2.Sample()
        for i in range(60):
            table2.run_elastic(k, distribution, (1, 3), 7, i, sample)
            table2.run_rigid(k, distribution, 3, 7, i, sample)
    return samples


@pytest.mark.parametrize("distribution", table2.DISTRIBUTIONS)
@pytest.mark.parametrize("k", [4, 8])
def test_ramp_up_and_rigid_completion_are_those_of_theory(
    k: int, distribution: str, small_table2: dict[tuple[int, str], table2.Sample]
) -> None:
    sample = small_table2[k, distribution]
    theory = table2.formulas(k, 3, distribution)
    assert Estimate.of(sample.ramp_up, 0.99).contains(theory["ramp-up"][1])
    assert Estimate.of(sample.rigid[3], 0.99).contains(theory["rigid"][1])
    assert Estimate.of(sample.rigid_held[3], 0.99).reciprocal(3).contains(theory["use"][1])


@pytest.mark.parametrize("k", [4, 8])
def test_elastic_completion_is_that_of_theory(
    k: int, small_table2: dict[tuple[int, str], table2.Sample]
) -> None:
    constant = small_table2[k, table2.CONSTANT]
    assert Estimate.of(constant.divisible[1], 0.99).contains(1.5)
    assert Estimate.of(constant.divisible[3], 0.99).contains(3.5)
    assert Estimate.of(constant.whole[3], 0.99).contains(3 + k / (k + 1))
    exponential = Estimate.of(small_table2[k, table2.EXPONENTIAL].divisible[3], 0.99)
    assert exponential.low - 0.1 <= table2.elastic_exponential(3) <= exponential.high + 0.1


def test_the_first_claim_on_any_slot_ramps_up_in_its_part_of_the_time() -> None:
    found = Estimate.of((table2.claim_any(60, 10, table2.CONSTANT, 3, i) for i in range(20)), 0.99)
    assert found.contains(10 / 61)


# -- Long tasks ---------------------------------------------------------------------------------------------------------


def test_nodes_fill_with_long_tasks_as_often_as_the_formula_says_and_never_below_the_cap() -> None:
    found, most = long_tasks.full_nodes(0.5, 2, 1.0, nodes=80, looks=8, seed=1)
    assert abs(found.mean - 0.25) < 0.05
    assert most == 1.0
    capped, most = long_tasks.full_nodes(0.5, 2, 0.5, nodes=40, looks=4, seed=1)
    assert (capped.mean, most) == (0.0, 0.5)


def test_killing_by_the_clock_loses_what_the_formula_says() -> None:
    size = long_tasks.Size(slaves=4, slots_per_slave=4, warm_up_s=300.0, measured_s=2400.0)
    durations = Exponential(60.0)
    point = long_tasks.work(durations, Policy.RETRY, 60.0, 0.75, size, 1)
    assert point.wasted_of_batch == pytest.approx(durations.wasted(60.0), abs=0.05)
    assert 0.9 < point.useful + point.wasted <= 1.0


def test_a_framework_that_learns_loses_less_where_all_are_killed() -> None:
    size = long_tasks.Size(slaves=4, slots_per_slave=4, warm_up_s=600.0, measured_s=1200.0)
    durations = Uniform(60.0)
    retry = long_tasks.work(durations, Policy.RETRY, 40.0, 0.75, size, 1)
    learn = long_tasks.work(durations, Policy.LEARN, 40.0, 0.75, size, 1)
    assert retry.wasted_of_batch == pytest.approx(durations.wasted(40.0), abs=0.02)
    assert learn.wasted_of_batch < retry.wasted_of_batch / 2


# -- The others ---------------------------------------------------------------------------------------------------------


def test_sharing_speeds_up_busy_frameworks_and_fills_the_cluster() -> None:
    result = run("macro")
    sums = {str(row["framework"]): row["speedup"] for row in table(result, "sums")}
    assert isinstance(sums["Large Hadoop"], float)
    assert sums["Large Hadoop"] > 1.7
    assert isinstance(sums["Torque / MPI"], float)
    assert 0.9 < sums["Torque / MPI"] <= 1.0
    for row in table(result, "utilization"):
        assert isinstance(row["gain"], float)
        assert row["gain"] > 10


def test_static_partitions_are_local_as_often_as_chance_and_waiting_makes_local() -> None:
    size = locality.Size(nodes=31, instances=5, blocks=120)
    parts = {}
    for mode in locality.MODES[:3]:
        scans = locality.run_mode(mode, size, 1, 0)
        parts[mode.name] = sum(s.local for s in scans) / sum(s.local + s.remote for s in scans)
    # A partition has 6 or 7 of 31 nodes; a block is on none of them with C(25,3)/C(31,3).
    assert parts["static partitions"] == pytest.approx(1 - 2300 / 4495, abs=0.06)
    assert parts["static partitions"] < parts["shared, no delay"] < parts["shared, 1 s"]
    assert parts["shared, 1 s"] > 0.95


def fake_clock() -> Callable[[], float]:
    """Each reading advances it by a tenth of a millisecond."""
    looks = itertools.count()
    return lambda: next(looks) * 1e-4


def test_probes_wait_for_a_slot_and_for_a_busy_master() -> None:
    found = scale.measure(200, 1, lambda done: None, fake_clock())
    assert len(found.probes_s) == scale.PROBES
    # One of 400 slots becomes free every 75 ms on average.
    assert 0.0 < sum(found.probes_s) / scale.PROBES < 0.3
    assert found.longest_turn_s == pytest.approx(1e-4)
    assert found.launches_per_s == pytest.approx(400 / 30, rel=0.15)


def test_the_table_of_scale_stands_beside_the_papers_curve() -> None:
    result = experiments.run("scale", Options(1, slaves=(1_000,)), lambda done, text: None)
    (row,) = table(result, "scale")
    assert row["paper_s"] == 0.14
    assert isinstance(row["worst_s"], float)
    assert row["worst_s"] < 1.0


# -- Repeatable ---------------------------------------------------------------------------------------------------------


def _elastic(seed: int) -> object:
    sample = table2.Sample()
    table2.run_elastic(6, table2.EXPONENTIAL, (1,), seed, 0, sample)
    return sample.ramp_up, sample.whole


def _work(seed: int) -> object:
    size = long_tasks.Size(slaves=2, slots_per_slave=4, warm_up_s=60.0, measured_s=300.0)
    return long_tasks.work(Exponential(60.0), Policy.DOUBLE, 60.0, 0.5, size, seed)


def _locality(seed: int) -> object:
    size = locality.Size(nodes=9, instances=3, blocks=30)
    return [(scan.local, scan.ended_at) for scan in locality.run_mode(locality.MODES[1], size, seed, 0)]


def _macro(seed: int) -> object:
    return macro.simulate(seed, shared=True, shrink=24).took_s()


def _scale(seed: int) -> object:
    return scale.measure(30, seed, lambda done: None, fake_clock())


@pytest.mark.parametrize("simulation", [_elastic, _work, _locality, _macro, _scale])
def test_one_seed_gives_one_result_and_another_another(simulation: Callable[[int], object]) -> None:
    first = simulation(1)
    assert simulation(1) == first
    assert simulation(2) != first


def test_on_slaves_of_one_cpu_long_tasks_run_only_because_the_part_for_them_is_one_cpu_at_least() -> None:
    size = long_tasks.Size(slaves=2, slots_per_slave=4, warm_up_s=120.0, measured_s=600.0)
    by_half_alone, now, uncapped = long_tasks.of_few_cpus(1, size, 1)
    assert by_half_alone.useful < 0.25 < 0.9 < now.useful == uncapped.useful
    by_half_alone, now, uncapped = long_tasks.of_few_cpus(2, size, 1)
    assert by_half_alone == now, "from two cpus on nothing is different"
    assert now.useful < uncapped.useful


@pytest.mark.parametrize("name", ["table2", "long-tasks", "locality"])
def test_results_are_plain_documents(name: str) -> None:
    result = run(name)
    import json

    plain = json.loads(json.dumps(document(result), allow_nan=False))
    assert plain["experiment"] == name
    assert set(plain["tables"]) == {found.key for found in result.tables}
    assert all(found.rows for found in result.tables)
    assert result.figures
    assert result.findings
