"""Framework authors may write plain strings, also for type checkers, as the programs in the documents do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from offerd import descriptions

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_programs_in_the_documents_have_no_error_of_types(tmp_path: Path) -> None:
    count = 0
    for document in DOCUMENTS:
        for number, program in enumerate(PROGRAM.findall(document.read_text())):
            # A guide does not repeat the import in each of its pieces.
            first = "" if "import offerd" in program or "from offerd" in program else "import offerd\n"
            (tmp_path / f"{document.stem.lower().replace('-', '_')}_{number}.py").write_text(first + program)
            count += 1
    assert count >= 5
    # Where `make check` keeps what it has found: a test that looks at all of offerd's own types again takes a minute.
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--check-untyped-defs",
        "--allow-untyped-defs",
        "--allow-untyped-calls",
    ]
    done = subprocess.run(
        [*words, "--no-warn-return-any", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


TREE = ast.parse(Path(descriptions.__file__).read_text())


@pytest.mark.parametrize("name", ["ExecutorInfo", "Filters", "FrameworkInfo", "TaskInfo"])
def test_type_checkers_see_the_fields_that_a_struct_has(name: str) -> None:
    (body,) = (node.body for node in TREE.body if isinstance(node, ast.ClassDef) and node.name == name)
    (block,) = (node.body for node in body if isinstance(node, ast.If))
    (reported,) = (node.args for node in block if isinstance(node, ast.FunctionDef))
    fields = msgspec.structs.fields(getattr(descriptions, name))
    assert [argument.arg for argument in reported.args[1:]] == [field.name for field in fields]
    assert len(reported.defaults) == sum(not field.required for field in fields)
