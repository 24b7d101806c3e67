"""Pickles of functions, cached as long as pickling again would give the same.

A function of an importable module is sent as its name, which costs almost nothing. Others are sent by value (see cloudpickle),
which takes longer than most calls. So the pickle is kept, together with everything that it was made of: the function's own
parts (code, defaults, closure, names, annotations), the globals and closures that it reads, and the same of each function that
it reaches through them. It is used again only if all these are still the same objects. If a change could go unnoticed (in a
list, another object, a module sent by value), the function is pickled each time.
"""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import is_
from typing import NamedTuple

import cloudpickle

PICKLES_KEPT = 4096
"""Most functions whose pickles are kept. There must be a bound, as a recursive closure keeps itself alive."""

ATOMS = frozenset((int, float, str, bytes, bool, type(None), complex))
"""Exact types that are immutable, and that plain pickle writes as cloudpickle would, at a seventh of the cost."""

_MISSING = object()
_OF_ALL_GLOBALS = ("__package__", "__name__", "__path__", "__file__")
"""The globals that cloudpickle sends with every function."""


class Pickled(NamedTuple):
    """`is_fixed`: unpickling gives an equal function each time, as nothing in it, nor anything that it reaches by value, can be
    changed in place. So the receiver may unpickle it once and keep it.
    """

    data: bytes
    is_fixed: bool


def pickle_function(function: Callable[..., object]) -> Pickled:
    """Pickle a function or another callable. Raises what pickling raises."""
    if type(function) is not types.FunctionType:
        return Pickled(_dumps(function), travels_by_name(function))
    known = _known.get(function)
    if known is not None and known.holds():
        return known.pickled
    pickled = Pickled(_dumps(function), True)
    if travels_by_name(function):
        return pickled
    makings = _Makings(pickled)
    if makings.add(function) and _dumps(function) == pickled.data:
        if len(_known) >= PICKLES_KEPT:
            _known.clear()
        _known[function] = makings
        return pickled
    return Pickled(pickled.data, False)


def travels_by_name(value: object) -> bool:
    """Whether a function, class or module is pickled as its name, so that its contents do not matter."""
    by_value = cloudpickle.list_registry_pickle_by_value()
    if isinstance(value, types.ModuleType):
        return value.__name__ in sys.modules and not _is_by_value(value.__name__, by_value)
    if not isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
        return False
    module_name = value.__module__
    return _is_at_its_name(value) and not _is_by_value(module_name, by_value)


def _dumps(value: object) -> bytes:
    pickled: bytes = cloudpickle.dumps(value)
    return pickled


def _is_by_value(module_name: str, by_value: set[str]) -> bool:
    while module_name:
        if module_name in by_value:
            return True
        module_name = module_name.rpartition(".")[0]
    return False


def _is_at_its_name(value: types.FunctionType | types.BuiltinFunctionType | type) -> bool:
    module_name, name = value.__module__, value.__qualname__
    if not isinstance(module_name, str) or module_name == "__main__":
        return False
    found: object = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


class _Parts:
    """The parts of a function that can be replaced. They are compared by identity, as `1 == True` although these differ."""

    __slots__ = (
        "annotations",
        "closure",
        "code",
        "defaults",
        "doc",
        "kwdefaults",
        "module",
        "name",
        "qualname",
    )

    def __init__(self, function: types.FunctionType) -> None:
        self.code, self.defaults, self.closure = (
            function.__code__,
            function.__defaults__,
            function.__closure__,
        )
        self.name, self.qualname = function.__name__, function.__qualname__
        self.module, self.doc = function.__module__, function.__doc__
        self.kwdefaults = tuple(_items(function.__kwdefaults__))
        self.annotations = tuple(_items(function.__annotations__))

    def are_of(self, function: types.FunctionType) -> bool:
        """Whether this function still has these parts, and no attributes."""
        return (
            function.__code__ is self.code
            and function.__defaults__ is self.defaults
            and function.__closure__ is self.closure
            and function.__name__ is self.name
            and function.__qualname__ is self.qualname
            and function.__module__ is self.module
            and function.__doc__ is self.doc
            and not function.__dict__
            and _are_items(function.__kwdefaults__, self.kwdefaults)
            and _are_items(function.__annotations__, self.annotations)
        )


@dataclass(slots=True)
class _Makings:
    """What a pickle was made of."""

    pickled: Pickled
    functions: dict[types.FunctionType, _Parts] = field(default_factory=dict)
    """The functions that are sent by value."""
    globals_read: list[tuple[dict[str, object], str, object]] = field(default_factory=list)
    cells_read: list[tuple[types.CellType, object]] = field(default_factory=list)
    named: list[types.FunctionType | types.BuiltinFunctionType | type] = field(default_factory=list)
    """What was sent by name: the name must still mean the same object."""
    modules: set[str] = field(default_factory=set)
    """Modules that were imported when it was made; of a package, those that the code names, as cloudpickle sends them along."""
    absent: set[str] = field(default_factory=set)
    """Modules that it would have sent along if they had been imported."""
    by_value: set[str] = field(default_factory=cloudpickle.list_registry_pickle_by_value)

    def holds(self) -> bool:
        """Whether pickling again would use the same objects."""
        if self.by_value != cloudpickle.list_registry_pickle_by_value():
            return False
        for function, parts in self.functions.items():
            if not parts.are_of(function):
                return False
        for namespace, name, value in self.globals_read:
            if namespace.get(name, _MISSING) is not value:
                return False
        loaded = sys.modules
        for cell, value in self.cells_read:
            if _contents(cell) is not value:
                return False
        return (
            loaded.keys() >= self.modules
            and loaded.keys().isdisjoint(self.absent)
            and all(map(_is_at_its_name, self.named))
        )

    def add(self, value: object) -> bool:
        """Note what `value`'s pickle is made of; False if a change in it could go unnoticed."""
        if value is _MISSING or type(value) in ATOMS:
            return True
        if type(value) is tuple:
            return all(map(self.add, value))
        if travels_by_name(value):
            if isinstance(value, types.ModuleType):
                self.modules.add(value.__name__)
            else:
                assert isinstance(value, types.FunctionType | types.BuiltinFunctionType | type)
                self.named.append(value)
            return True
        return type(value) is types.FunctionType and (value in self.functions or self._add_function(value))

    def _add_function(self, function: types.FunctionType) -> bool:
        if function.__dict__ or getattr(function, "__type_params__", None):
            return False
        self.functions[function] = _Parts(function)
        code, namespace = function.__code__, function.__globals__
        reached: list[object] = []
        for name in {*_names_of(code), *_OF_ALL_GLOBALS}:
            value = namespace.get(name, _MISSING)
            self.globals_read.append((namespace, name, value))
            reached.append(value)
        for cell in function.__closure__ or ():
            value = _contents(cell)
            self.cells_read.append((cell, value))
            reached.append(value)
        for value in reached:
            if isinstance(value, types.ModuleType) and value.__package__:
                self._add_submodules(value.__name__, code.co_names)
        # Code, closure and names are immutable. All other parts are values like any other.
        values = (
            *(function.__defaults__ or ()),
            *_items(function.__kwdefaults__),
            *_items(function.__annotations__),
        )
        return all(map(self.add, (*reached, *values)))

    def _add_submodules(self, package: str, names: tuple[str, ...]) -> None:
        """Note submodules that the code may use as attributes of a package: cloudpickle sends the imported ones along."""
        for name in names:
            submodule = f"{package}.{name}"
            if submodule in sys.modules:
                self.modules.add(submodule)
                self._add_submodules(submodule, names)
            else:
                self.absent.add(submodule)


_known: weakref.WeakKeyDictionary[types.FunctionType, _Makings] = weakref.WeakKeyDictionary()


def _items(mapping: dict[str, object] | None) -> Iterator[object]:
    for name, value in (mapping or {}).items():
        yield name
        yield value


def _are_items(mapping: dict[str, object] | None, items: tuple[object, ...]) -> bool:
    if not mapping:
        return not items
    return len(items) == 2 * len(mapping) and all(map(is_, _items(mapping), items))


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _MISSING


def _names_of(code: types.CodeType) -> set[str]:
    """Names that the code, or a function defined in it, may look up among its globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_of(constant)
    return names
