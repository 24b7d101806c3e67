"""Which package may import which, that the cores do no IO, and that the packaging tables name every package on disk."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The import DAG of the components. A package may import itself and the packages listed here, and no others of offerd.
MAY_IMPORT: dict[str, set[str]] = {
    "offerd_linux": set(),
    "offerd": set(),
    "offerd_isolation": {"offerd", "offerd_linux"},
    "offerd_master": {"offerd"},
    "offerd_slave": {"offerd", "offerd_linux", "offerd_isolation"},
    "offerd_executors": {"offerd", "offerd_linux"},
    "offerd_frameworks": {"offerd"},
    "offerd_simulator": {"offerd", "offerd_isolation", "offerd_master", "offerd_slave"},
    "offerd_web": {"offerd"},
    "offerd_cli": {
        "offerd",
        "offerd_linux",
        "offerd_isolation",
        "offerd_master",
        "offerd_slave",
        "offerd_executors",
        "offerd_frameworks",
        "offerd_simulator",
        "offerd_web",
    },
}

# A core gets the time and events, and returns actions. With these modules it could read or act by itself.
IMPURE_MODULES = {
    "asyncio",
    "concurrent",
    "ctypes",
    "datetime",
    "fcntl",
    "glob",
    "http",
    "io",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "psutil",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
    "zmq",
}
# Modules beside a core, such as settings, may hold paths; the core itself does not use them.
BESIDE_THE_CORE = {"pathlib"}
FACE = "offerd"
"""The SDK's face imports a module only when one of its names is first used, so what it names is not followed."""
PURE_NAMES = {
    # A sum in whole pages; the module asks the kernel once how large a page is.
    "offerd_isolation.cgroups.limits": {"with_executor"},
    # Words for a number; beside it `os` splits a wait status.
    "offerd_linux.exits": {"exit_words"},
    # A tuple that names a process; beside it are functions that read /proc.
    "offerd_linux.process_ids": {"ProcessID"},
}
"""What a core may use of modules that are not pure. Whoever imports one of these names alone is not followed there."""
SHELLS = [
    "sdk/offerd", "master/offerd_master", "slave/offerd_slave", "simulator/offerd_simulator", "cli/offerd_cli",
    "web/offerd_web", "frameworks/offerd_frameworks", "executors/offerd_executors", "bench", "tests/helpers",
]  # fmt: skip
"""Folders with the shells that run cores."""
CORE_NAMES = {"core", "_core"}
"""Names of attributes and variables that hold a core."""
PART_NAMES = {"registry", "_registry"}
"""Names of attributes and variables in the master that hold a part of its core: the shell may read it."""
CHANGERS = {
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "insert", "intersection_update",
    "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "setdefault", "sort", "subtract", "update",
}  # fmt: skip
"""Methods of containers that change them."""
IMPURE_SETTERS = {"setattr", "delattr", "object.__setattr__"}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


class Import(NamedTuple):
    """One imported module, dotted, and for `from` the imported names: each may be a submodule."""

    line: int
    module: str
    names: tuple[str, ...] = ()

    @property
    def top(self) -> str:
        """The first part of the module's name."""
        return self.module.partition(".")[0]


def packages_on_disk() -> dict[str, Path]:
    """Import name and folder of each of our packages, FOLDER/offerd*/__init__.py."""
    found = (path.parent for path in ROOT.glob("*/offerd*/__init__.py"))
    return {path.name: path for path in sorted(found)}


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import in `source`, wherever it stands, also those for types only; relative ones are made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - 1 if is_package else node.level
                parents = module.split(".")
                base = ".".join([*parents[: len(parents) - up], *([base] if base else [])])
            yield Import(node.lineno, base, tuple(alias.name for alias in node.names))


def module_name(package: Path, path: Path) -> str:
    """`offerd_master.core.offers` for the file of that module, `offerd_master.core` for its package's."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name and file of every module in a package."""
    return {module_name(package, path): path for path in sorted(package.rglob("*.py"))}


def forbidden_imports(package: str, imports: Iterator[Import]) -> list[str]:
    """The imports that the DAG does not allow to `package`."""
    allowed = MAY_IMPORT[package] | {package}
    return [
        f"{package} line {item.line} imports {item.module}"
        for item in imports
        if item.top.startswith("offerd") and item.top not in allowed
    ]


def is_core(module: str) -> bool:
    """Whether a dotted name is in a component's core."""
    return "core" in module.split(".")[1:]


def impurities(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a pure module must not contain: imports that reach outside the process, and builtins that do."""
    banned = IMPURE_MODULES if is_core(module) else IMPURE_MODULES - BESIDE_THE_CORE
    found = [
        f"{module} line {item.line} imports {item.module}"
        for item in imports_of(source, module, is_package)
        if item.top in banned
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in IMPURE_CALLS:
            found.append(f"{module} line {node.lineno} calls {ast.unparse(node.func)}()")
    return found


def reached_from(start: Iterable[str], modules: dict[str, Path]) -> set[str]:
    """The modules `start` and all of `modules` that they import, directly or not, apart from `FACE` and `PURE_NAMES`."""
    waiting = list(start)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        path = modules[name]
        for item in imports_of(path.read_text(), name, path.name == "__init__.py"):
            if item.names and set(item.names) <= PURE_NAMES.get(item.module, set()):
                continue
            candidates = {item.module, *(f"{item.module}.{member}" for member in item.names)} - {FACE}
            waiting.extend(candidates & modules.keys())
    return reached


@cache
def all_modules() -> dict[str, Path]:
    """Dotted name and file of every module of every package."""
    return {
        name: path for package in packages_on_disk().values() for name, path in modules_of(package).items()
    }


def impurities_of(names: Iterable[str]) -> list[str]:
    """The impurities of these modules."""
    files = ((name, all_modules()[name]) for name in sorted(names))
    return [
        text
        for name, path in files
        for text in impurities(path.read_text(), name, path.name == "__init__.py")
    ]


def reaches_core(node: ast.expr, holders: set[str], aliases: set[str]) -> bool:
    """Whether the value of an expression such as `self.core.cluster` or `tasks[name]` is a core, or something within one."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute) and node.attr in holders:
            return True
        node = node.value
    return isinstance(node, ast.Name) and (node.id in holders or node.id in aliases)


def is_whole_core(node: ast.expr) -> bool:
    """Whether an expression such as `core` or `self._core` is a core itself: its methods are how it gets events."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in CORE_NAMES


@cache
def changing_methods() -> frozenset[str]:
    """Names of the methods by which objects within a core, and containers, change themselves."""
    cores = [path for package in packages_on_disk().values() for path in package.rglob("core/**/*.py")]
    classes = [
        node
        for path in cores
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    methods = [node for each in classes for node in each.body if isinstance(node, ast.FunctionDef)]
    found = set(CHANGERS)
    while more := {method.name for method in methods if changes_itself(method, found)} - found:
        found |= more
    return frozenset(found)


def changes_itself(method: ast.FunctionDef, changing: Collection[str]) -> bool:
    """Whether a method, other than `__init__`, assigns to a part of `self`, or calls a method there that is `changing`."""
    if method.name == "__init__":
        return False
    for node in ast.walk(method):
        changed: ast.expr | None = None
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in changing
        ):
            changed = node.func.value
        while isinstance(changed, ast.Attribute | ast.Subscript):
            changed = changed.value
        if isinstance(changed, ast.Name) and changed.id == "self":
            return True
    return False


def names_within_core(function: ast.AST, holders: set[str]) -> set[str]:
    """Names to which this function assigns something within a core."""
    bound: list[tuple[ast.expr, ast.expr]] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    bound += zip(target.elts, node.value.elts, strict=False)
                else:
                    bound.append((target, node.value))
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            bound.append((node.target, node.value))
    aliases: set[str] = set()
    while (
        more := {
            name.id
            for name, value in bound
            if isinstance(name, ast.Name) and reaches_core(value, holders, aliases)
        }
        - aliases
    ):
        aliases |= more
    return aliases


def pokes(source: str, module: str) -> list[str]:
    """Statements by which a shell changes a core's state, which only events and arguments may do: assignments, and calls of
    methods that change an object within a core.
    """
    changing = changing_methods()
    holders = CORE_NAMES | (PART_NAMES if module.startswith("offerd_master.") else set())
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    scopes: list[tuple[ast.AST, set[str]]] = [(tree, set())]
    scopes += [(function, names_within_core(function, holders)) for function in functions]
    found: set[tuple[int, str]] = set()
    for scope, aliases in scopes:
        for node in ast.walk(scope):
            changed: ast.expr | None = None
            if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
                changed = node.value
            elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in IMPURE_SETTERS:
                changed = node.args[0]
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in changing
            ):
                changed = None if is_whole_core(node.func.value) else node.func.value
            if changed is not None and reaches_core(changed, holders, aliases):
                found.add((getattr(node, "lineno", 0), ast.unparse(node)))
    return [f"{module} line {line} changes a core: {text}" for line, text in sorted(found)]


def imports_within(modules: dict[str, Path]) -> dict[str, set[str]]:
    """The modules of a package that each of its modules imports, also for types only; other names stand for their module."""
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        graph[name] = set()
        for item in imports_of(path.read_text(), name, path.name == "__init__.py"):
            members = {f"{item.module}.{member}" for member in item.names}
            graph[name] |= (members & modules.keys()) or ({item.module} & modules.keys())
        graph[name].discard(name)
    return graph


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The modules that are on a circle of imports, or between two circles."""
    left = {name: set(uses) for name, uses in graph.items()}
    while True:
        used = set().union(*left.values())
        outside = {name for name, uses in left.items() if not uses or name not in used}
        if not outside:
            return set(left)
        left = {name: uses - outside for name, uses in left.items() if name not in outside}


def config() -> dict[str, Any]:
    """The tool tables of pyproject.toml."""
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    return tools


def test_every_package_has_its_place_in_the_dag() -> None:
    assert set(packages_on_disk()) == set(MAY_IMPORT)


def test_the_dag_has_no_cycle() -> None:
    placed: set[str] = set()
    while ready := {name for name, uses in MAY_IMPORT.items() if uses <= placed} - placed:
        placed |= ready
    assert placed == set(MAY_IMPORT)


def test_master_and_slave_do_not_import_each_other() -> None:
    assert "offerd_slave" not in MAY_IMPORT["offerd_master"]
    assert "offerd_master" not in MAY_IMPORT["offerd_slave"]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_package_imports_only_what_the_dag_allows(package: str) -> None:
    found: list[str] = []
    for name, path in modules_of(packages_on_disk()[package]).items():
        imports = imports_of(path.read_text(), name, path.name == "__init__.py")
        found += (f"{path.relative_to(ROOT)}: {text}" for text in forbidden_imports(package, imports))
    assert found == []


@pytest.mark.parametrize(
    "package", ["offerd", "offerd_frameworks", "offerd_master", "offerd_slave", "offerd_web"]
)
def test_core_does_no_io_and_reads_no_clock(package: str) -> None:
    core = [name for name in modules_of(packages_on_disk()[package]) if is_core(name)]
    assert core, f"{package} has no core"
    assert impurities_of(reached_from(core, all_modules())) == []


def test_a_core_uses_each_pure_name_of_a_module_that_is_not_pure() -> None:
    reached = reached_from((name for name in all_modules() if is_core(name)), all_modules())
    used = {
        (item.module, member)
        for name in reached
        for item in imports_of(all_modules()[name].read_text(), name)
        for member in item.names
    }
    for module, names in PURE_NAMES.items():
        assert {(module, name) for name in names} <= used
        assert impurities_of(reached_from([module], all_modules()))


@pytest.mark.parametrize("folder", SHELLS)
def test_only_a_core_changes_itself(folder: str) -> None:
    modules = modules_of(ROOT / folder)
    shells = {
        name: path for name, path in modules.items() if not name.startswith("offerd_") or not is_core(name)
    }
    assert shells
    assert [text for name, path in shells.items() for text in pokes(path.read_text(), name)] == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_circle_of_imports_within_a_package(package: str) -> None:
    assert circles(imports_within(modules_of(packages_on_disk()[package]))) == set()


def test_packaging_names_every_package_on_disk() -> None:
    on_disk = packages_on_disk().values()
    build = config()["hatch"]["build"]
    assert sorted(build["targets"]["wheel"]["packages"]) == sorted(
        str(path.relative_to(ROOT)) for path in on_disk
    )
    assert sorted(build["dev-mode-dirs"]) == sorted(path.parent.name for path in on_disk)


def test_tools_look_into_every_component() -> None:
    components = {path.parent.name for path in packages_on_disk().values()}
    mypy_path = {Path(entry).name for entry in config()["mypy"]["mypy_path"]}
    assert components <= mypy_path
    assert components <= set(config()["ruff"]["src"])
    assert components <= set(config()["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])


def test_every_package_is_typed() -> None:
    assert [name for name, path in packages_on_disk().items() if not (path / "py.typed").exists()] == []


@pytest.mark.parametrize(
    "source",
    [
        "import offerd_slave",
        "import offerd_slave.daemon as daemon",
        "from offerd_slave.core import state",
        "def f():\n    from offerd_slave import core",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import offerd_isolation",
    ],
)
def test_a_planted_import_against_the_dag_is_found(source: str) -> None:
    assert forbidden_imports("offerd_master", imports_of(source, "offerd_master.x"))


def test_imports_along_the_dag_and_within_the_package_pass() -> None:
    source = "import offerd\nfrom offerd_master.core import state\nfrom . import daemon\nimport zmq"
    assert forbidden_imports("offerd_master", imports_of(source, "offerd_master.x")) == []


@pytest.mark.parametrize(
    "source",
    ["import time", "import os.path", "from random import choice", "def f():\n    import zmq", "open('x')"],
)
def test_a_planted_impurity_is_found(source: str) -> None:
    assert impurities(source, "offerd_master.core.state")


def test_pure_code_passes() -> None:
    assert (
        impurities("import math\nfrom offerd import resources\nf.open(1)", "offerd_master.core.state") == []
    )


@pytest.mark.parametrize(
    "source",
    [
        "self.core.epoch = 1",
        "self._core.cluster.epoch = 1",
        "self.epoch = self.core.cluster.epoch = 1",
        "core.failed += 1",
        "a, self.core.out = 1, []",
        "self.core.state.tasks[name] = task",
        "del self.core.state.tasks[name]",
        "del core.state",
        "for core.now in times: pass",
        "def f(self):\n    cluster = self.core.cluster\n    cluster.failed += 1",
        "def f(core):\n    now, c = 1.0, core.cluster\n    tasks = c.tasks\n    tasks['a'].state = now",
        "self.core.state.tasks.pop(name)",
        "def f(self):\n    cluster = self.core.cluster\n    cluster.slaves.update(more)",
        "self._registry.take(contents)",
        "self._gate.registry.set_file(principals)",
        "self.core.cluster.registry.apply(change)",
        "registry.refused['late'] += 1",
        "setattr(self.core.cluster, 'epoch', 1)",
        "delattr(core, 'epoch')",
    ],
)
def test_a_planted_change_of_a_core_is_found(source: str) -> None:
    assert len(pokes(source, "offerd_master.daemon")) == 1


def test_making_and_asking_a_core_passes() -> None:
    source = """
def f(self):
    self.core = MasterCore(settings)
    epoch = self.core.cluster.epoch
    self.epoch = epoch
    self.actions[epoch] = self.core.handle(event, now)
    tasks = len(self.core.state.tasks.items())
    self._registry = self._gate.registry = registry.but(file=principals)
    cause, why = self._registry.refusal(key, now)
"""
    assert pokes(source, "offerd_master.daemon") == []


def test_only_modules_beside_the_core_may_hold_paths() -> None:
    source = "from pathlib import Path"
    assert impurities(source, "offerd_slave.core.state")
    assert impurities(source, "offerd_slave.settings") == []


def test_relative_imports_are_resolved() -> None:
    inside_module = imports_of("from . import a\nfrom ..b import c", "offerd_master.core.state")
    assert [item.module for item in inside_module] == ["offerd_master.core", "offerd_master.b"]
    inside_package = imports_of("from . import a\nfrom .b import c", "offerd_master.core", is_package=True)
    assert [item.module for item in inside_package] == ["offerd_master.core", "offerd_master.core.b"]


def test_a_core_reaches_what_it_imports_also_in_other_packages(tmp_path: Path) -> None:
    package = tmp_path / "offerd_master"
    (package / "core").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "core" / "__init__.py").write_text("")
    (package / "core" / "state.py").write_text(
        "from offerd_master import shares\nimport offerd_linux.exits\n"
    )
    (package / "shares.py").write_text("from .ties import lowest\n")
    (package / "ties.py").write_text("")
    (package / "daemon.py").write_text("import zmq\n")
    other = tmp_path / "offerd_linux"
    other.mkdir()
    (other / "exits.py").write_text("from offerd_linux.process_ids import ProcessID\n")
    (other / "process_ids.py").write_text("")
    modules = modules_of(package) | modules_of(other)
    reached = reached_from([name for name in modules if is_core(name)], modules)
    assert {"offerd_master.core.state", "offerd_master.shares", "offerd_master.ties"} <= reached
    assert "offerd_linux.exits" in reached
    assert not {"offerd_master.daemon", "offerd_linux.process_ids"} & reached


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_the_folders_of_a_package_import_each_other_one_way(package: str) -> None:
    modules = modules_of(packages_on_disk()[package])
    between: dict[str, set[str]] = {}
    for name, uses in imports_within(modules).items():
        if modules[name].name != "__init__.py":
            between.setdefault(place(name), set()).update(place(use) for use in uses if use != package)
    for name, uses in between.items():
        uses.discard(name)
    assert circles(between) == set()


def place(module: str) -> str:
    """The folder that a module lies in; a module at the top of its package is a place by itself."""
    return module.rpartition(".")[0] if module.count(".") > 1 else module


def test_a_planted_circle_of_imports_is_found_also_one_for_types_only(tmp_path: Path) -> None:
    package = tmp_path / "offerd_master"
    package.mkdir()
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from offerd_master.a import A\n"
    sources = {
        "__init__": "",
        "a": "from offerd_master import b",
        "b": "def f():\n    from .c import C",
        "c": for_types,
        "above": "import offerd_master.a",
        "below": "import time",
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    found = circles(imports_within(modules_of(package)))
    assert found == {"offerd_master.a", "offerd_master.b", "offerd_master.c"}
    (package / "c.py").write_text("from offerd_master import below")
    assert circles(imports_within(modules_of(package))) == set()
