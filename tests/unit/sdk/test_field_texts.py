"""Every field of what frameworks and peers send each other says what it means, in a docstring below it."""

from __future__ import annotations

import ast
import inspect

import msgspec
import pytest

from helpers import wire
from offerd import states

STRUCTS = wire.structs()


def texts_below(kind: type) -> dict[str, str]:
    """Each annotated or assigned name in the body of a class, with the docstring that follows it."""
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            name = each.target.id
        elif isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            name = each.targets[0].id
        elif name and isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
            found[name], name = str(each.value.value), ""
        else:
            name = ""
    return found


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_of_a_message_says_what_it_means(name: str) -> None:
    kind = STRUCTS[name]
    assert kind.__doc__, "the class has no docstring"
    assert [field.name for field in msgspec.structs.fields(kind)] == list(texts_below(kind))


@pytest.mark.parametrize("kind", [states.TaskState, states.Reason])
def test_every_state_and_reason_says_when_it_is_given(kind: type[states.TaskState | states.Reason]) -> None:
    assert set(kind.__members__) <= set(texts_below(kind))


class Bare(msgspec.Struct):
    named: int
    """Has a text."""
    bare: int = 0


def test_the_check_sees_a_field_without_a_text() -> None:
    assert list(texts_below(Bare)) == ["named"]
