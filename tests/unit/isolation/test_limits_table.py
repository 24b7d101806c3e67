"""The tables in docs/isolation.md of the values written for one task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from offerd.resources import NOTHING, Resources
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions
from offerd_isolation.cgroups import limits
from offerd_isolation.cgroups.controllers import Controller, Cpu, Memory, Pids
from offerd_isolation.cgroups.limits import Limits
from offerd_isolation.docker import v1

DOCUMENT = Path(__file__).parents[3] / "docs/isolation.md"
TASK = Resources.of(cpus=0.5, mem="512M")
QUOTA = IsolationOptions(cpu_quota=True)
V2 = (Cpu(""), Memory(""), Pids(""))
V1 = (v1.Cpu("", ""), v1.Memory(""), Pids(""))
WITH_QUOTA, WITH_SWAP = " with --cpu-quota", " and memory.memsw.limit_in_bytes"


def tables() -> list[list[list[str]]]:
    """Rows of cells, without the headings."""
    text = DOCUMENT.read_text().split("### What is written for a task of 512 MB", 1)[1].split("\n### ", 1)[0]
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| file")]
    return [
        [[cell.strip() for cell in line.strip("|").replace("`", "").split("|")] for line in block[2:]]
        for block in blocks
    ]


def written(controllers: Iterable[Controller], wanted: Limits) -> dict[str, str]:
    found = {}
    for controller in controllers:
        for attribute, value in controller.wanted(wanted).items():
            file = vars(type(controller))[attribute]
            found[file.filename.decode()] = str(file.sanitize_set(value))
    return found


def of_container(options: IsolationOptions) -> Limits:
    return limits.of_container(TASK, options, places_tasks=True, unlimited=False)


@pytest.mark.parametrize(
    ("table", "column", "controllers", "usual", "with_quota"),
    [
        (0, 1, V2, limits.of_task(TASK, {}, DEFAULT_OPTIONS), limits.of_task(TASK, {}, QUOTA)),
        (0, 2, V2, of_container(DEFAULT_OPTIONS), of_container(QUOTA)),
        (0, 3, V2, limits.of_executor(NOTHING, DEFAULT_OPTIONS), limits.of_executor(NOTHING, QUOTA)),
        (
            0,
            4,
            V2,
            limits.of_docker_container(TASK, DEFAULT_OPTIONS),
            limits.of_docker_container(TASK, QUOTA),
        ),
        (
            1,
            1,
            V1,
            limits.of_docker_container(TASK, DEFAULT_OPTIONS),
            limits.of_docker_container(TASK, QUOTA),
        ),
    ],
)
def test_the_tables_of_the_document_match_the_written_values(
    table: int, column: int, controllers: tuple[Controller, ...], usual: Limits, with_quota: Limits
) -> None:
    rows = {row[0]: row[column] for row in tables()[table] if row[column]}
    quota = {name.removesuffix(WITH_QUOTA): rows.pop(name) for name in list(rows) if WITH_QUOTA in name}
    rows = {name.removesuffix(WITH_SWAP): value for name, value in rows.items()}
    assert written(controllers, usual) == rows
    assert written(controllers, with_quota) == rows | quota
