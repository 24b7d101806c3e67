"""The documentation as a site: it builds without a warning, and its reference has every public name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import offerd

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
LINK = re.compile(r"\]\(([^)\s#]+)")
MODULE = re.compile(r"`((?:\w+/)+\w+\.py)[`:]")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Strict mode: a warning is an error, for example about a link to a missing heading or file, or a page in no menu."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--quiet",
            "--strict",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "site/reference/schedulers.html").read_text()
    assert "Free resources, each offer those of one slave." in page


def test_the_reference_has_every_public_name_once() -> None:
    shown = [
        name
        for page in sorted(REFERENCE.glob("*.md"))
        for name in re.findall(r"^::: offerd\.(\w+)$", page.read_text(), re.MULTILINE)
        if page.name != "protocol.md" and name != "errors"  # modules
    ]
    assert sorted(shown) == sorted(set(offerd.__all__) - {"__version__"})


def test_the_list_of_decisions_names_each() -> None:
    decisions = ROOT / "docs/decisions"
    listed = re.findall(r"\((\d{4}-[^)]+\.md)\)", (decisions / "index.md").read_text())
    assert listed == sorted(path.name for path in decisions.glob("0*.md"))


def test_documents_link_to_files_that_exist() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "deploy/README.md"]
    missing = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in LINK.findall(document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert missing == []


def test_documents_name_modules_that_exist() -> None:
    """A document may name a module by the end of its path, for example `core/offers.py`."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()
    missing = [
        f"{document.relative_to(ROOT)}: {name}"
        for document in documents
        for name in MODULE.findall(document.read_text())
        if not any(f"/{path}".endswith(f"/{name}") for path in listed)
    ]
    assert missing == []
