"""Object graphs as plain values and back."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, OrderedDict, deque
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec
import pytest

from offerd.daemons import object_graph
from offerd.daemons.object_graph import NotPlain, Ref, flatten, restore
from offerd.errors import BadInput
from offerd.messages import ExecutorInfo
from offerd.resources import Resources


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: Any


class Slotted:
    __slots__ = ("here", "unset")

    def __init__(self, here: object) -> None:
        self.here = here


class Node:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def method(self) -> Node:
        return self


class Shape(msgspec.Struct, frozen=True):
    corners: list[Point]
    of: Any = None


def anything(_module: str, _kind: str) -> bool:
    return True


def again(root: object) -> Any:
    return restore(flatten(root), anything)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, "text", b"bytes", [], {}, (), [1, [2, (3,)]], {"a": {"b": 1}}, {1, 2}, frozenset({(1, 2)}),
        deque([1, 2], 5), OrderedDict(b=1, a=2), Counter("aab"), Colour.RED, Point(1, [2]), PurePath("/a/b"),
        Shape([Point(1, 2)], Resources.of(cpus=1, ports=[(1, 2)])), ExecutorInfo("e", module="m"), {Colour.RED: Colour},
        {(1, "a"): {Point(1, 2)}}, {Shape: flatten},
    ],
)  # fmt: skip
def test_values_come_back_equal_and_of_the_same_type(value: object) -> None:
    if not isinstance(
        value, list | dict | tuple | set | frozenset | deque | Enum | PurePath | msgspec.Struct
    ):
        value = [value]
    back = again(value)
    assert back == value
    assert type(back) is type(value)


def test_objects_keep_what_they_share_and_their_circles() -> None:
    inner = Slotted([1])
    root = Node(first=inner, second=inner, names={"inner": inner})
    root.itself = root  # type: ignore[attr-defined]
    inner.here.append(root)  # type: ignore[attr-defined]
    back = again(root)
    assert back.first is back.second is back.names["inner"]
    assert back.itself is back
    assert back.first.here[1] is back
    assert not hasattr(back.first, "unset")


def test_the_ends_and_the_order_of_containers_stay() -> None:
    back = again([deque(range(9), 3), OrderedDict([("z", 1), ("a", 2)]), {"z": 1, "a": 2}])
    assert (back[0].maxlen, list(back[0])) == (3, [6, 7, 8])
    assert list(back[1]) == list(back[2]) == ["z", "a"]


def test_methods_are_bound_to_what_comes_back() -> None:
    root = Node()
    root.bound = root.method  # type: ignore[attr-defined]
    back = again(root)
    assert back.bound() is back


def test_keys_that_are_objects_are_found_under_their_hash() -> None:
    shape = Shape(corners=[], of=1)  # hashed by what it holds, unlike an object
    key = (shape.of, "x")
    node = Node()
    back = again(Node(by={key: 1, node: 2}, node=node))
    assert back.by[1, "x"] == 1
    assert back.by[back.node] == 2


def test_graphs_of_any_depth_come_back() -> None:
    root: Any = None
    for _ in range(100_000):
        root = Node(next=root)
    back, length = again(root), 0
    while back is not None:
        back, length = back.next, length + 1
    assert length == 100_000


def test_what_cannot_be_written_down_is_named() -> None:
    for what in (lambda: 1, threading.Lock(), Node(held=[threading.Lock()]), iter([1])):
        with pytest.raises(NotPlain, match="cannot be"):
            list(flatten(what))


def test_only_what_is_allowed_is_made_and_nothing_is_called() -> None:
    nodes = list(flatten(Node(a=Shape([]))))
    with pytest.raises(BadInput, match="does not belong in one"):
        restore(nodes, lambda module, _: module != __name__)
    made: list[str] = []

    class Planted:
        def __init__(self) -> None:
            made.append("called")

    globals()["Planted"] = Planted
    Planted.__qualname__ = "Planted"
    restore([["object", Ref(1)], ["class", __name__, "Planted"]], anything)
    assert made == []


@pytest.mark.parametrize(
    "nodes",
    [
        [], [[]], [3], [["strange"]], [["dict", 1]], [["list", Ref(7)]], [["tuple", Ref(0)]], [["set", Ref(1)], ["list"]],
        [["path", 3]], [["deque", "x"]], [["method", 1, "x"]], [["atom", Ref(0)]], [["object", Ref(0)]], [["object", 3]],
        [["object", Ref(1), "a"], ["class", __name__, "Node"]], [["struct", Ref(1), 1], ["class", __name__, "Shape"]],
        [["struct", Ref(1)], ["class", __name__, "Node"]], [["named tuple", Ref(1), 1], ["class", __name__, "Node"]],
        [["enum", Ref(1), "BLUE"], ["class", __name__, "Colour"]], [["class", "os", "path"]], [["function", "os", "system"]],
        [["class", __name__, "nothing"]],
    ],
)  # fmt: skip
def test_invalid_nodes_are_bad_input(nodes: Any) -> None:
    with pytest.raises(BadInput, match="not a recorded state"):
        restore(nodes, lambda module, _: module == __name__)


class WithMethod:
    kept = 0

    def get(self, key: object) -> object:
        return key


def method_of(part: Any, name: str) -> list[list[Any]]:
    return [["method", part, name], ["object", Ref(2)], ["class", __name__, "WithMethod"], ["path", "x"]]


def test_a_method_comes_back_bound_to_its_object() -> None:
    box = WithMethod()
    box.kept = 3
    back = again([box.get, box])
    assert back[0].__self__ is back[1]
    assert (back[0](5), back[1].kept) == (5, 3)


@pytest.mark.parametrize(
    "nodes",
    [
        method_of(Ref(3), "_flavour"),  # of a path: a way to the module `os`
        method_of(Ref(1), "__class__"),
        method_of(Ref(1), "kept"),
        method_of(Ref(1), "absent"),
        method_of(Ref(2), "get"),
        method_of("text", "encode"),
    ],
)
def test_only_functions_of_allowed_classes_are_methods(nodes: Any) -> None:
    with pytest.raises(BadInput, match="is not a method"):
        restore(nodes, lambda module, _: module == __name__)


@pytest.mark.parametrize("name", ["get", "__class__", "__dict__"])
def test_no_attribute_takes_the_place_of_what_the_class_defines(name: str) -> None:
    nodes: list[list[Any]] = [["object", Ref(1), name, 3], ["class", __name__, "WithMethod"]]
    with pytest.raises(BadInput, match="is not an attribute"):
        restore(nodes, anything)


def test_names_that_lead_out_of_a_module_are_refused() -> None:
    for name in ("WithMethod.__init_subclass__", "WithMethod.get.__globals__", "__builtins__"):
        nodes: list[list[Any]] = [["function", __name__, name]]
        with pytest.raises(BadInput, match="not a recorded state"):
            restore(nodes, anything)


def test_more_objects_than_a_state_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_graph, "MAX_NODES", 100)
    with pytest.raises(BadInput, match="more than 100 objects"):
        restore((["list"] for _ in itertools.count()), anything)
