"""The part of a slave for long tasks."""

from __future__ import annotations

import pytest

from offerd.core.slots import long_quantities
from offerd.resources import Resources


@pytest.mark.parametrize(
    ("cpus", "fraction", "millicpus"),
    [
        ("8", 0.5, 4000),
        ("3", 0.5, 1500),
        ("2", 0.5, 1000),
        ("1.5", 0.5, 1000),
        ("1", 0.5, 1000),
        ("0.5", 0.5, 500),
        ("4", 0.1, 1000),
        ("1", 0.0, 0),
        ("4", 1.0, 4000),
    ],
)
def test_the_long_part_is_the_fraction_and_one_cpu_at_least(
    cpus: str, fraction: float, millicpus: int
) -> None:
    assert long_quantities(Resources.of(cpus=cpus), fraction)["cpus"] == millicpus


def test_with_the_one_cpu_comes_its_share_of_all_other_resources() -> None:
    total = Resources.parse("cpus=1,mem=100M,ports=[1-10]")
    assert long_quantities(total, 0.5) == {"cpus": 1000, "mem": 100 << 20, "ports": 10}
    total = Resources.parse("cpus=1.5,mem=300M")
    assert long_quantities(total, 0.5) == {"cpus": 1000, "mem": 200 << 20}


@pytest.mark.parametrize(
    ("mem", "long_mem"), [("1G", "512M"), ("200M", "128M"), ("100M", "100M"), ("256M", "128M")]
)
def test_there_is_memory_for_one_task_in_it(mem: str, long_mem: str) -> None:
    total = Resources.of(cpus=2, mem=mem)
    assert long_quantities(total, 0.5)["mem"] == Resources.of(mem=long_mem).mem_bytes
    assert long_quantities(total, 0.0)["mem"] == 0


def test_a_slave_without_cpus_has_the_fraction_alone() -> None:
    assert long_quantities(Resources.of(mem=100), 0.29) == {"mem": 29}
