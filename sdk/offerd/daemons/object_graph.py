"""Turns object graphs into plain values and back, to write down a core's state so that it can go on from there.

`flatten` makes one *node* for each object that the root reaches, the root's first: a list that MessagePack can hold. In a node,
anything but None, numbers, strings and bytes is a `Ref`, the number of another node. So cycles and shared objects are kept,
and chains of references may have any length. (`pickle` follows them by recursion, and calls whatever a file names.)

`restore` must be safe with a file from anybody, although methods of what it makes are called later. It makes objects of
classes, and looks up functions, of the modules that its caller allows, and calls only the constructors of structs. A method
is a function of such a class, bound to an object; no attribute of an object takes the place of a method of its class. A
function is stored by module and name, so a closure cannot be written down.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any

import msgspec

from offerd.errors import BadInput, OfferdError

Node = list[Any]
_ATOMS = (type(None), bool, int, float, str, bytes)
_CONTAINERS: dict[type, str] = {
    dict: "dict", OrderedDict: "ordered dict", Counter: "counter", list: "list", tuple: "tuple", set: "set",
    frozenset: "frozenset", deque: "deque",
}  # fmt: skip
_BY_NAME = {name: kind for kind, name in _CONTAINERS.items()}
_MAPPINGS = ("dict", "ordered dict", "counter")
MAX_NODES = 2_000_000
"""Most objects in one graph that is read: some gigabytes. A master with 100,000 tasks has about 500,000."""


class Ref:
    """Stands for an object: the number of its node. Not a tuple, which MessagePack would write as an array."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return type(other) is Ref and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"Ref({self.number})"


class NotPlain(OfferdError):
    """An object that cannot be written down, such as a closure, a lock or a file."""


# -- Writing ------------------------------------------------------------------------------------------------------------


def flatten(root: object, stand_in: Callable[[object], object] = lambda of: of) -> Iterator[Node]:
    """The nodes of all objects that `root` reaches, its own first. Raises `NotPlain`. `stand_in` returns what to write down in
    place of an object: the object itself, or a struct of numbers, strings and bytes.
    """
    numbers: dict[int, int] = {}
    objects: list[object] = []

    def value(of: object) -> object:
        if type(of) in _ATOMS:
            return of
        number = numbers.get(id(of))
        if number is None:
            numbers[id(of)] = number = len(objects)
            objects.append(of)  # also keeps it alive, so that its id stays unique
        return Ref(number)

    if value(root) is root:
        yield ["atom", root]
    for each in objects:  # grows in this loop
        yield _node(stand_in(each), value)


def _node(of: object, value: Callable[[object], object]) -> Node:
    kind = type(of)
    name = _CONTAINERS.get(kind)
    if name in _MAPPINGS:
        return [name, *(value(part) for item in of.items() for part in item)]  # type: ignore[attr-defined]
    if name == "deque":
        return [name, of.maxlen, *map(value, of)]  # type: ignore[attr-defined, call-overload]
    if name is not None:
        return [name, *map(value, of)]  # type: ignore[call-overload]
    if isinstance(of, Enum):
        return ["enum", value(kind), of.name]
    if isinstance(of, msgspec.Struct):
        return ["struct", value(kind), *(value(getattr(of, field)) for field in of.__struct_fields__)]
    if isinstance(of, type):
        return ["class", of.__module__, _findable(of)]
    if isinstance(of, types.MethodType):
        return ["method", value(of.__self__), of.__name__]
    if isinstance(of, types.FunctionType):
        return ["function", of.__module__, _findable(of)]
    if isinstance(of, PurePath):
        return ["path", str(of)]
    if isinstance(of, tuple):
        return ["named tuple", value(kind), *map(value, of)]
    attributes = dict(_attributes(of))
    if not attributes and (kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__module__ == "builtins"):
        raise NotPlain(f"a {kind.__qualname__} cannot be written down")
    return ["object", value(kind), *(part for key, held in attributes.items() for part in (key, value(held)))]


def _findable(of: Any) -> str:
    """The name of a class or function in its module. Raises `NotPlain` if it cannot be found by that."""
    found: Any = sys.modules.get(of.__module__)
    for part in of.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not of:
        raise NotPlain(f"{of.__module__}.{of.__qualname__} cannot be found by its name")
    return str(of.__qualname__)


def _attributes(of: object) -> Iterator[tuple[str, object]]:
    yield from getattr(of, "__dict__", {}).items()
    for base in type(of).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(of, name):
                yield name, getattr(of, name)


# -- Reading ------------------------------------------------------------------------------------------------------------


def restore(nodes: Iterable[Node], is_allowed: Callable[[str, str], bool]) -> Any:
    """The root of a graph that `flatten` wrote. `is_allowed(module, kind)`: whether a `class` or `function` of this module may
    occur; such modules are imported. Raises `BadInput` for invalid nodes, and for more than `MAX_NODES`.
    """
    held = list(islice(nodes, MAX_NODES + 1))
    if len(held) > MAX_NODES:
        raise BadInput(f"this is not a recorded state: it has more than {MAX_NODES:,} objects")
    try:
        return _Restoring(held, is_allowed).root()
    except (
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise BadInput(f"this is not a recorded state: {error!r}") from None


class _Restoring:
    def __init__(self, nodes: list[Node], is_allowed: Callable[[str, str], bool]) -> None:
        self._nodes = nodes
        self._is_allowed = is_allowed
        self._made: list[Any] = [_MISSING] * len(nodes)
        self._is_filled = [False] * len(nodes)

    def root(self) -> Any:
        numbers = range(len(self._nodes))
        for number in numbers:
            self._object(number)
        for number in numbers:
            if self._nodes[number][0] == "object":
                self._fill(number)
        # A member of a set, or a key, needs its hash now, and its contents may decide that.
        for number in sorted(numbers, key=self._has_objects_as_keys):
            self._fill(number)
        return self._made[0]

    def _value(self, part: object) -> Any:
        return self._object(part.number) if type(part) is Ref else part

    def _object(self, number: int) -> Any:
        made = self._made[number]
        if made is _MISSING:
            made = self._made[number] = self._make(*self._nodes[number])
        return made

    def _whole(self, part: object) -> Any:
        """An object with its contents, which a constructor may look at. Objects that are not containers may still be empty."""
        if type(part) is not Ref:
            return part
        made = self._object(part.number)
        if self._nodes[part.number][0] in _BY_NAME and not self._is_filled[part.number]:
            for inner in self._nodes[part.number][1:]:
                self._whole(inner)
            self._fill(part.number)
        return made

    def _make(self, kind: str, *parts: Any) -> Any:
        """The object. An immutable one is complete; any other is still empty."""
        if kind in ("tuple", "frozenset"):
            return _BY_NAME[kind](map(self._whole, parts))
        if kind == "named tuple":
            return tuple.__new__(self._class(parts[0], tuple), map(self._whole, parts[1:]))
        if kind == "deque":
            return deque(maxlen=parts[0])
        if kind in _BY_NAME:
            return _BY_NAME[kind]()
        if kind == "struct":
            cls = self._class(parts[0], msgspec.Struct)
            return cls(**dict(zip(cls.__struct_fields__, map(self._whole, parts[1:]), strict=True)))
        if kind == "object":
            cls = self._class(parts[0], object)
            return object.__new__(cls)
        if kind == "enum":
            return self._class(parts[0], Enum)[parts[1]]
        if kind == "method":
            return self._method(*parts)
        if kind == "path":
            return PurePath(parts[0])
        if kind == "atom" and type(parts[0]) in _ATOMS:
            return parts[0]
        return self._named(kind, *parts)

    def _class(self, part: object, base: type) -> Any:
        found = self._value(part)
        if not isinstance(found, type) or not issubclass(found, base):
            raise BadInput(f"this is not a recorded state: {found!r} is not a {base.__name__}")
        return found

    def _method(self, part: object, name: str) -> Any:
        """A function of the object's class, bound to it. An attribute of the object itself is none, nor is anything of a class
        of another module: a path has attributes that lead to the module `os`.
        """
        of = self._value(part)
        function = next((base.__dict__[name] for base in type(of).__mro__ if name in base.__dict__), None)
        is_ours = self._is_allowed(type(of).__module__, "class")
        if not is_ours or not isinstance(function, types.FunctionType) or _is_special(name):
            raise BadInput(f"this is not a recorded state: {name!r} is not a method of a {type(of).__name__}")
        return types.MethodType(function, of)

    def _named(self, kind: str, module: str, name: str) -> Any:
        if kind not in ("class", "function") or not self._is_allowed(module, kind):
            raise BadInput(f"this is not a recorded state: a {kind} of {module} does not belong in one")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            if _is_special(part):
                raise BadInput(f"this is not a recorded state: {name} is not a name in {module}")
            found = getattr(found, part)
        wanted = {"class": type, "function": types.FunctionType}[kind]
        if not isinstance(found, wanted) or found.__module__ != module:
            raise BadInput(f"this is not a recorded state: {module}.{name} is not a {kind}")
        return found

    def _fill(self, number: int) -> None:
        if self._is_filled[number]:
            return
        self._is_filled[number] = True
        (kind, *parts), made = self._nodes[number], self._made[number]
        if kind == "list":
            made.extend(map(self._value, parts))
        elif kind == "deque":
            made.extend(map(self._value, parts[1:]))
        elif kind == "set":
            made.update(map(self._value, parts))
        elif kind in _MAPPINGS:
            for key, part in zip(parts[::2], parts[1::2], strict=True):
                made[self._value(key)] = self._value(part)
        elif kind == "object":
            for key, part in zip(parts[1::2], parts[2::2], strict=True):
                _check_attribute(type(made), key)
                object.__setattr__(made, key, self._value(part))

    def _has_objects_as_keys(self, number: int) -> bool:
        kind, *parts = self._nodes[number]
        if kind not in (*_MAPPINGS, "set"):
            return False
        return any(type(key) is Ref for key in (parts if kind == "set" else parts[::2]))


def _is_special(name: str) -> bool:
    """A name like `__class__`, from which one reaches anything."""
    return name.startswith("__") and name.endswith("__")


def _check_attribute(cls: type, name: str) -> None:
    """Raises `BadInput` for an attribute that would stand in for something that its class defines, such as a method."""
    defined = next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)
    is_value = isinstance(defined, (*_ATOMS, types.MemberDescriptorType))
    if _is_special(name) or not is_value:
        raise BadInput(f"this is not a recorded state: {name!r} is not an attribute of a {cls.__name__}")


_MISSING: Any = object()
