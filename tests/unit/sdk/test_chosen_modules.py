"""Modules that an option names: offerd's own are found without listing installed packages, others by their entry points."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from offerd.daemons.chosen_modules import Kind, load
from offerd.errors import BadInput
from offerd_isolation import choose as isolation
from offerd_master.allocation import choose as allocation
from offerd_master.allocation.policy import Policy

TESTED = Kind("module", "offerd.tested", {"mine": "fractions:Fraction"})


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module as pip installs it, with its metadata beside it."""
    (tmp_path / "their_module.py").write_text("class Theirs: ...\n")
    described = tmp_path / "theirs-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[offerd.tested]\ntheirs = their_module:Theirs\nmine = their_module:Theirs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("theirs")
def test_a_module_of_another_package_is_found_by_its_entry_point() -> None:
    assert load(TESTED, "theirs", object).__name__ == "Theirs"


@pytest.mark.usefixtures("theirs")
def test_no_other_package_takes_the_place_of_a_module_of_offerd() -> None:
    assert load(TESTED, "mine", object).__name__ == "Fraction"


@pytest.mark.usefixtures("theirs")
def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"^no module is called 'nobodys'; there are: mine, theirs$"):
        load(TESTED, "nobodys", object)


def test_an_unknown_isolation_module_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'nope'; there are: cgroups, docker, noop, auto"):
        isolation.choose("nope", tmp_path)


@pytest.mark.parametrize("name", isolation.KIND.own)
def test_each_isolation_module_of_offerd_is_found(name: str) -> None:
    assert isolation.module(name).__module__.startswith("offerd_isolation")


def test_the_daemons_load_no_list_of_what_is_installed(tmp_path: Path) -> None:
    script = f"""
        import sys
        from pathlib import Path
        import offerd_master.process, offerd_slave.process
        from offerd_isolation.choose import choose
        from offerd_master.allocation.choose import load_allocator
        from offerd_master.allocation.policy import Policy
        choose("noop", Path({str(tmp_path)!r}))
        load_allocator("drf", Policy())
        print(*({{"importlib.metadata", "msgpack"}} & sys.modules.keys()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == [], "each takes 0.5 to 2 MB of every daemon's memory"


def test_each_allocation_module_of_offerd_is_in_the_table() -> None:
    assert sorted(allocation.KIND.own) == ["drf", "lottery", "priority"]


BROKEN = {
    "absent": ("no_such_module:Thing", "ModuleNotFoundError: No module named 'no_such_module'"),
    "bare": ("their_bare_module:Thing", "AttributeError: .* has no attribute 'Thing'"),
    "raising": ("their_raising_module:Thing", "ValueError: it does not like this host"),
    "torn": ("their_torn_module:Thing", "SyntaxError: "),
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose entry points cannot be imported, or are of another kind than their group."""
    (tmp_path / "their_bare_module.py").write_text("class Other:\n    def __init__(self): ...\n")
    (tmp_path / "their_torn_module.py").write_text("class Thing(:\n")
    (tmp_path / "their_raising_module.py").write_text("raise ValueError('it does not like this host')\n")
    (tmp_path / "their_half_module.py").write_text(
        "from offerd_master.allocation.base import Allocator\nclass Half(Allocator): ...\n"
    )
    described = tmp_path / "broken-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = {name: where for name, (where, _) in BROKEN.items()}
    points |= {"evil": "their_bare_module:Other", "half": "their_half_module:Half"}
    lines = "".join(f"{name} = {where}\n" for name, where in points.items())
    (described / "entry_points.txt").write_text(
        "".join(f"[{group}]\n{lines}" for group in (allocation.KIND.group, isolation.KIND.group))
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_imported_is_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    fault = BROKEN[name][1]
    with pytest.raises(BadInput, match=f"^allocation module '{name}' cannot be loaded: {fault}"):
        allocation.load_allocator(name, Policy())
    with pytest.raises(BadInput, match=f"^isolation module '{name}' cannot be loaded: {fault}"):
        isolation.choose(name, tmp_path)


@pytest.mark.usefixtures("broken")
def test_a_module_of_another_class_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"'evil' is not a subclass of offerd_master.allocation.base.Allocator"
    ):
        allocation.load_allocator("evil", Policy())
    with pytest.raises(BadInput, match=r"'half' lacks methods of .*: .*add_framework, add_total, "):
        allocation.load_allocator("half", Policy())
    with pytest.raises(BadInput, match=r"'evil' is not a subclass of offerd_isolation.base.Isolation"):
        isolation.choose("evil", tmp_path)
