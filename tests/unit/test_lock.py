"""What is installed on hosts is pinned by version and hash, and satisfies pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "deploy" / name for name in ("build.lock", "requirements.lock")]


def locked() -> dict[str, str]:
    """Name and version of each package."""
    text = "".join(path.read_text() for path in LOCKS)
    pins = re.findall(r"^([\w.-]+)==([\w.+!]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [
        Requirement(text)
        for text in (
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["web"],
            *project["build-system"]["requires"],
        )
    ]


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_everything_that_is_needed_is_locked_in_a_version_that_will_do(requirement: Requirement) -> None:
    version = locked().get(canonicalize_name(requirement.name))
    assert version is not None, "renew the lock file with `make lock`"
    assert requirement.specifier.contains(version), "renew the lock file with `make lock`"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_nothing_is_installed_without_a_version_and_a_hash(lock: Path) -> None:
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    entries = [entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry.strip()]
    assert entries
    assert [each for each in entries if not re.match(r"[\w.-]+==\S", each)] == []
    assert [each for each in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", each)] == []


@pytest.mark.parametrize("place", ["deploy/provision/common.sh", "deploy/images/Dockerfile"])
def test_installing_on_hosts_takes_nothing_else_from_an_index(place: str) -> None:
    text = re.sub(r"^#.*\n", "", (ROOT / place).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    commands = re.findall(r"pip(?:_install|\S* install) (--(?!quiet)[^&\n]*)", text)
    assert len(commands) == 3
    for command in commands:
        assert "--require-hashes" in command or "--no-deps" in command
        assert "--only-binary :all:" in command or "--no-deps" in command
        assert "--no-build-isolation" in command or "build.lock" in command
