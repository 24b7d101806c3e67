"""The lists of faults and threats in `docs/` name tests: each must exist, and each fault and threat must have one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/faults.md"
THREATS = ROOT / "docs/security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FAULTS = {
    *(f"F{number}" for number in range(1, 16)),
    "F23",
    "F28",
    *(f"S{number}" for number in range(1, 22)),
}


def rows() -> dict[str, list[tuple[str, str]]]:
    """The first word of each row, and the tests that it names."""
    lines = [line for line in PAGE.read_text().splitlines() if NAMED.search(line)]
    return {line.removeprefix("| ").split()[0]: NAMED.findall(line) for line in lines}


def test_every_fault_has_a_row_with_a_test() -> None:
    assert rows().keys() >= FAULTS


def test_every_test_that_is_named_exists() -> None:
    named = set(NAMED.findall(PAGE.read_text() + THREATS.read_text()))
    defined = {
        (path, node.name)
        for path in {path for path, _ in named}
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert named - defined == set()


def test_every_threat_has_a_line_and_every_line_a_test() -> None:
    text = THREATS.read_text()
    lines = [line for line in text[text.index("## Threats") :].splitlines() if line.startswith("|")][2:]
    assert {f"T{number}" for number in range(1, 11)} == set(re.findall(r"\*\*(T\d+) ", "\n".join(lines)))
    named = [re.findall(r"`(tests/[\w/]+\.py)(?:::\w+)?` \|$", line) for line in lines]
    assert all(named), [line for line, tests in zip(lines, named, strict=True) if not tests]
    assert all((ROOT / path).exists() for (path,) in named)
