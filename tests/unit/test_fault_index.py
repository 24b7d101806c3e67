"""The list of faults in `docs/faults.md` names tests: each must exist, and each fault must have one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/faults.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FAULTS = {*(f"F{number}" for number in range(1, 16)), "F23", "F28"}


def rows() -> dict[str, list[tuple[str, str]]]:
    """The first word of each row, and the tests that it names."""
    lines = [line for line in PAGE.read_text().splitlines() if NAMED.search(line)]
    return {line.removeprefix("| ").split()[0]: NAMED.findall(line) for line in lines}


def test_every_fault_has_a_row_with_a_test() -> None:
    assert rows().keys() >= FAULTS


def test_every_test_that_is_named_exists() -> None:
    named = {one for tests in rows().values() for one in tests}
    defined = {
        (path, node.name)
        for path in {path for path, _ in named}
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert named - defined == set()
