"""Frameworks use only what every author can use: the names of `import offerd`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import offerd

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "frameworks" / "offerd_frameworks"


def private_uses(source: str) -> Iterator[str]:
    """Imports of a module of the SDK, and names of `offerd` that are not public."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("offerd."))
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module.startswith("offerd."):
                yield node.module
            elif node.module == "offerd":
                yield from (alias.name for alias in node.names if alias.name not in offerd.__all__)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "offerd"
            and node.attr not in offerd.__all__
        ):
            yield f"offerd.{node.attr}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_framework_imports_public_names_only(path: Path) -> None:
    assert list(private_uses(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import offerd.wire.codec",
        "from offerd.wire.codec import batch",
        "from offerd import wire",
        "import offerd\nofferd.wire",
    ],
)
def test_a_planted_private_use_is_found(source: str) -> None:
    assert list(private_uses(source))


def test_an_installed_framework_is_a_name_of_the_sdk() -> None:
    from offerd import mapreduce
    from offerd_frameworks import mapreduce as itself

    assert mapreduce is itself
    with pytest.raises(AttributeError):
        _ = offerd.no_such_framework
