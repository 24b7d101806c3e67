"""Processes that a job's command leaves behind: nobody waits for them, and they are ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offerd_frameworks.mapreduce import task
from offerd_frameworks.mapreduce.streaming import COMMANDS

SLEEPS = "exec sleep 300"
KEEPS = "exec 3<&0; "  # what runs behind has /dev/null as its standard input
LIMIT_S = 60.0
HOLDERS = {
    "stderr alone": f"sh -c '{SLEEPS}' >&- &",
    "all": f"sh -c '{SLEEPS}' <&3 &",
    "another session": f"setsid sh -c '{SLEEPS}' <&3 &",
    "no environment and no parent": f"(env -i setsid sh -c '{SLEEPS}' <&3 & ) &",
    "a child": f"(sh -c '{SLEEPS}; :' <&3 & exec sleep 300 <&3) &",
}
SOME = ("all", "no environment and no parent")


NO_LISTS = """
import builtins
real = builtins.open
def no_lists(path, *arguments, **options):
    if str(path).endswith("/children"):
        raise FileNotFoundError(2, "No such file or directory", path)
    return real(path, *arguments, **options)
builtins.open = no_lists
"""


def run_task(directory: Path, what: dict[str, Any], **environment: str) -> list[bytes]:
    """Run a task as on a slave, in a process and a directory of its own; returns the lines of its output."""
    common = {"id": "t", "key": "k", "set": "job-j", "files": {}, "shelves": [], "data": "/data/@", "job": {}}
    packed = task.pack({**common, "environment": {}, **what})
    done = subprocess.run(
        [sys.executable, "-m", "offerd_frameworks.mapreduce.task"],
        cwd=directory,
        env={
            **os.environ,
            **packed,
            **environment,
            "OFFERD_SLAVE_ID": "s",
            "OFFERD_CONTAINER_ID": "c",
            "OFFERD_DATA_DIR": "/",
        },
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (directory / "output").read_bytes().splitlines()


def map_of(directory: Path, mapper: str, **more: Any) -> dict[str, Any]:
    """Over two pieces, of two lines each."""
    pieces = []
    for name in ("a", "b"):
        path = directory.parent / name
        path.write_text(f"{name}1\n{name}2\n")
        pieces.append([str(path), 0, 6, 0])
    return {
        "kind": "map", "mapper": mapper, "combiner": "", "reads_pieces": False, "pieces": pieces, "block": "",
        "places": [], "sort_bytes": 4 << 20, "reduces": 1, **more,
    }  # fmt: skip


def sleepers(directory: Path) -> list[int]:
    """Processes that work below this directory."""
    found = []
    for pid in os.listdir("/proc"):
        try:
            if pid.isdecimal() and os.readlink(f"/proc/{pid}/cwd").startswith(str(directory)):
                found.append(int(pid))
        except OSError:
            continue  # it has ended
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "task"
    path.mkdir()
    return path


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_mapper_is_over_when_its_program_has_ended(directory: Path, holder: str) -> None:
    lines = run_task(directory, map_of(directory, f"{KEEPS} cat; {HOLDERS[holder]}", reduces=len(holder) % 2))
    assert lines == [b"a1", b"a2", b"b1", b"b2"]
    assert sleepers(directory) == []


def test_children_are_found_even_if_the_kernel_lists_none(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_LISTS)
    mapper = f"{KEEPS} cat; {HOLDERS['no environment and no parent']}"
    lines = run_task(directory, map_of(directory, mapper), PYTHONPATH=str(tmp_path))
    assert lines == [b"a1", b"a2", b"b1", b"b2"]
    assert sleepers(directory) == []


@pytest.mark.parametrize("holder", SOME)
def test_a_combiner_may_end_before_it_has_read_everything(directory: Path, holder: str) -> None:
    lots, combiner = "cat; seq 300000", f"{KEEPS} head -n 1; {HOLDERS[holder]}"
    assert run_task(directory, map_of(directory, lots, combiner=combiner)) == [b"1"]
    assert sleepers(directory) == []


@pytest.mark.parametrize("holder", SOME)
def test_a_reducer_is_over_when_its_program_has_ended(directory: Path, holder: str) -> None:
    what: dict[str, Any] = {
        "kind": "reduce", "reducer": f"{KEEPS} echo done; {HOLDERS[holder]}", "low": None, "high": None,
        "containers": [], "maps": [], "index_digests": "", "by_key": True,
    }  # fmt: skip
    assert run_task(directory, what) == [b"done"]
    assert sleepers(directory) == []


def test_a_commands_children_go_on_while_the_command_runs(directory: Path) -> None:
    """Also while earlier mappers end: a combiner's own helper is not taken for theirs when its parent is gone."""
    helper = f"{KEEPS} mkfifo back; (setsid sh -c 'wc -l <&3 >back' &); cat back"
    assert run_task(directory, map_of(directory, "seq 200000; sleep 0.3", combiner=helper)) == [b"400000"]


def test_a_program_that_fails_is_reported_at_once(directory: Path) -> None:
    with pytest.raises(AssertionError, match="ended with status 3"):
        run_task(directory, map_of(directory, "sleep 300 & exit 3"))
    assert sleepers(directory) == []
    assert (directory / COMMANDS).is_dir()
