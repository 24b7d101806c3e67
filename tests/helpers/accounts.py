"""Run commands as an account of this host without any rights: uid and gid 65534, no groups, no capabilities."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import offerd

NOBODY = 65534
_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def _is_open_to_all(path: Path) -> bool:
    """Whether any account can reach it and run (or enter) it."""
    real = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (real, *real.parents))


def _interpreter() -> str:
    """This Python, or another of its version that can import its packages; empty if other accounts can run neither."""
    found = (sys.executable, shutil.which(_VERSION, path="/usr/bin:/usr/local/bin"))
    return next((each for each in found if each and _is_open_to_all(Path(each))), "")


def _source_path() -> list[str]:
    """The directories of the packages that the interpreter needs."""
    return [
        entry
        for entry in sys.path
        if entry and Path(entry).is_dir() and entry != str(Path(__file__).parents[1])
    ]


def as_nobody(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as that account, with only this environment."""
    setpriv = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all",
        "--no-new-privs",
    ]
    return subprocess.run(
        [*setpriv, *words],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )


def offerd_as_nobody(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `offerd` command as that account. Skips the test if the account can run no interpreter."""
    python = _interpreter()
    if not python or not _is_open_to_all(Path(offerd.__file__).parent):
        pytest.skip("other accounts cannot reach Python or the sources here")
    path = {"PYTHONPATH": os.pathsep.join(_source_path()), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    return as_nobody(python, "-m", "offerd_cli.main", *words, **path, **environment)
