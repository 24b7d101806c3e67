"""Habits of this code base that a machine can check: such faults grow unnoticed, one change at a time."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CEILING_LINES = 600
CEILING_FUNCTION_LINES = 60
TEXT_SUFFIXES = {".cfg", ".html", ".js", ".md", ".py", ".service", ".sh", ".toml", ".txt", ".yaml", ".yml"}
TEXT_NAMES = {"Makefile", "Vagrantfile", "run", "account", ".gitignore"}
# A service or a command may print; a library that does spoils its user's output.
MAY_PRINT = ("cli/", "executors/", "tests/", "bench/", "examples/")

# Spelled in two halves, or this file would find itself.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b")
MACHINE_PATH = re.compile(r"(?<![\w.\-/])/(?:work|root|home|Users|tmp)/\w")
MARK = re.compile(r"# marked: \w")

Check = Callable[[str], Iterable[str]]


def top_folders() -> list[Path]:
    """The folders that hold our files: one for each component, and others beside them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    components = project["tool"]["hatch"]["build"]["dev-mode-dirs"]
    folders = [ROOT / name for name in (*components, "tests", "bench", "deploy", "docs", "examples", ".ci")]
    return [folder for folder in folders if folder.is_dir()]


def text_files() -> Iterator[Path]:
    """All our text files, but not others' in `vendor`. Without git: a checkout may be a tarball, or belong to another user."""
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and (path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES):
            yield path
    for folder in top_folders():
        for path in sorted(folder.rglob("*")):
            if "__pycache__" in path.parts or "vendor" in path.parts or not path.is_file():
                continue
            if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
                yield path


def python_files() -> list[Path]:
    """The text files that are Python."""
    return [path for path in text_files() if path.suffix == ".py"]


def findings(paths: Iterable[Path], check: Check) -> list[str]:
    """The findings of `check` in each file, with the file's name."""
    return [f"{path.relative_to(ROOT)}:{finding}" for path in paths for finding in check(source_of(path))]


source_of = cache(Path.read_text)
"""Read once: there are hundreds of files, and every check needs them."""


def length(source: str) -> Iterator[str]:
    """A file longer than the ceiling."""
    lines = source.count("\n")
    if lines > CEILING_LINES:
        yield f"{lines}: longer than {CEILING_LINES} lines: split it by subject"


def long_functions(source: str) -> Iterator[str]:
    """Functions that do not fit a screen, from `def` to their last line. Decorators do not count, because they are often the
    options of a command. The docstring does not count either, because it should not be shortened for this.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
        if lines > CEILING_FUNCTION_LINES:
            yield f" {node.name}"


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def blanks(source: str) -> Iterator[str]:
    """Tabs, blanks at line ends, and a missing last newline."""
    for number, line in enumerate(source.split("\n"), 1):
        if "\t" in line:
            yield f"{number}: tab"
        if line != line.rstrip():
            yield f"{number}: blank at the end of the line"
    if source and not source.endswith("\n"):
        yield "1: no line end at the end of the file"


def trailing_blanks(source: str) -> Iterator[str]:
    """Blanks at line ends, for files in which tabs have a meaning."""
    return (finding for finding in blanks(source) if not finding.endswith("tab"))


def unfinished(source: str) -> Iterator[str]:
    """Notes about unfinished work: these belong in an issue."""
    for number, line in enumerate(source.split("\n"), 1):
        if UNFINISHED.search(line):
            yield f"{number}: note of unfinished work"


def machine_paths(source: str) -> Iterator[str]:
    """Absolute paths that exist on one machine only."""
    for number, line in enumerate(source.split("\n"), 1):
        if MACHINE_PATH.search(line):
            yield f"{number}: path of one machine"


def docstring(source: str) -> Iterator[str]:
    """A module without a docstring."""
    if not ast.get_docstring(ast.parse(source)):
        yield "1: no module docstring"


def annotations_import(source: str) -> Iterator[str]:
    """A module with code and without `from __future__ import annotations`."""
    tree = ast.parse(source)
    has_code = any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in ast.walk(tree)
    )
    has_import = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and node.names[0].name == "annotations"
        for node in tree.body
    )
    if has_code and not has_import:
        yield "1: no `from __future__ import annotations`"


def broad_excepts(source: str) -> Iterator[str]:
    """Handlers that catch everything, unless they raise again or have a mark with the reason."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        is_broad = any(
            kind is None or getattr(kind, "id", "") in ("Exception", "BaseException") for kind in caught
        )
        raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if is_broad and not raises_again and not MARK.search(lines[node.lineno - 1]):
            yield f"{node.lineno}: broad except: name the errors, or say why after `# marked:`"


def prints(source: str) -> Iterator[str]:
    """Calls of print()."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield f"{node.lineno}: print"


def test_no_code_file_is_longer_than_the_ceiling() -> None:
    code = [path for path in text_files() if path.suffix in (".py", ".sh")]
    assert findings(code, length) == []


def test_no_function_is_longer_than_a_screen() -> None:
    assert findings(python_files(), long_functions) == []


def test_text_has_no_tabs_and_no_blanks_at_line_ends() -> None:
    tabbed = {path for path in text_files() if path.name == "Makefile"}
    assert findings((path for path in text_files() if path not in tabbed), blanks) == []
    assert findings(tabbed, trailing_blanks) == []


def test_nothing_is_marked_unfinished() -> None:
    assert findings(text_files(), unfinished) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert findings(text_files(), machine_paths) == []


def test_every_module_says_what_it_is_for() -> None:
    assert findings(python_files(), docstring) == []


def test_modules_with_code_postpone_annotations() -> None:
    assert findings(python_files(), annotations_import) == []


def test_broad_excepts_are_marked() -> None:
    assert findings(python_files(), broad_excepts) == []


def test_libraries_do_not_print() -> None:
    quiet = [path for path in python_files() if not str(path.relative_to(ROOT)).startswith(MAY_PRINT)]
    assert findings(quiet, prints) == []


def test_the_files_checked_are_those_of_every_ring_and_component() -> None:
    seen = {str(path.relative_to(ROOT)) for path in text_files()}
    assert seen >= {"pyproject.toml", "Makefile", ".ci/run", "deploy/bootstrap.sh", "sdk/offerd/__init__.py"}
    assert Path(__file__).resolve() in python_files()


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (length, "x\n" * (CEILING_LINES + 1)),
        (long_functions, "@x\ndef f() -> None:\n" + "    g()\n" * CEILING_FUNCTION_LINES),
        (long_functions, "class C:\n    async def f() -> None:\n" + "        g()\n" * CEILING_FUNCTION_LINES),
        (blanks, "x = 1 \n"),
        (blanks, "\tx = 1\n"),
        (blanks, "x = 1"),
        (trailing_blanks, "all:\n\techo \n"),
        (unfinished, "# TO" + "DO: the rest\n"),
        (machine_paths, "see /ro" + "ot/notes\n"),
        (machine_paths, '"/ho' + 'me/someone"\n'),
        (docstring, "x = 1\n"),
        (annotations_import, "def f() -> None: ...\n"),
        (broad_excepts, "try:\n    f()\nexcept:\n    pass\n"),
        (
            broad_excepts,
            "try:\n    f()\nexcept (OSError, Exception) as error:\n    raise ValueError from error\n",
        ),
        (broad_excepts, "try:\n    f()\nexcept BaseException:  # marked:\n    pass\n"),
        (prints, "print(1)\n"),
    ],
)
def test_a_planted_fault_is_found(check: Check, source: str) -> None:
    assert list(check(source))


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (length, "x\n" * CEILING_LINES),
        (
            long_functions,
            '@x(\n    y,\n)\ndef f() -> None:\n    """What\n\n    it does."""\n'
            + "    g()\n" * (CEILING_FUNCTION_LINES - 1),
        ),
        (blanks, "x = 1\n\n    y\n"),
        (trailing_blanks, "all:\n\techo\n"),
        (unfinished, "todos = methodology\n"),
        (machine_paths, "slave" + "/work" + "/x and ./tmp/y and a https://host/home/z\n"),
        (docstring, '"""What it is for."""\n'),
        (annotations_import, "from __future__ import annotations\n\ndef f() -> None: ...\n"),
        (annotations_import, "from offerd import ids\n"),
        (broad_excepts, "try:\n    f()\nexcept OSError:\n    pass\n"),
        (broad_excepts, "try:\n    f()\nexcept BaseException:\n    g()\n    raise\n"),
        (broad_excepts, "try:\n    f()\nexcept Exception:  # marked: code of others\n    pass\n"),
        (prints, "blueprint(1)\n"),
    ],
)
def test_a_clean_sample_passes(check: Check, source: str) -> None:
    assert not list(check(source))
