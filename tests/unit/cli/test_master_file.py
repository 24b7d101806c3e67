"""The master's file: options by name, an `[allocation]` table, and the command line, which takes precedence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offerd.resources import Resources
from offerd_cli.main import main
from offerd_master import process
from offerd_master.settings import MasterSettings

FILE = """
offer_timeout = "7s"
missed-pings = 9

[allocation]
module = "priority"

[allocation.roles."science/physics"]
weight = 2
guarantee = "cpus=4,mem=8G"

[allocation.frameworks.nightly]
priority = -1
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[MasterSettings]:
    """The settings of each master that would have been started."""
    seen: list[MasterSettings] = []

    def run_master(options: Any) -> int:
        seen.append(options.settings)
        return 0

    monkeypatch.setattr(process, "run_master", run_master)
    return seen


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        raise SystemExit(main(list(words)))
    return int(caught.value.code or 0)


def test_the_file_has_the_options_that_the_command_line_lacks(
    tmp_path: Path, started: list[MasterSettings]
) -> None:
    path = tmp_path / "master.toml"
    path.write_text(FILE)
    assert run("master", "--config", str(path), "--missed-pings", "3", "--weights", "gold=5") == 0
    (settings,) = started
    assert (settings.offer_timeout_s, settings.max_missed_pings, settings.allocator) == (7.0, 3, "priority")
    physics = settings.policy.roles["science/physics"]
    assert (physics.weight, physics.guarantee) == (2.0, Resources.of(cpus=4, mem="8G"))
    assert settings.policy.roles["gold"].weight == 5.0
    assert settings.policy.frameworks["nightly"].priority == -1


def test_flags_change_single_terms_of_a_role_of_the_file(
    tmp_path: Path, started: list[MasterSettings]
) -> None:
    path = tmp_path / "master.toml"
    path.write_text(FILE)
    role = "science/physics"
    words = ["--allocator", "drf", "--weights", f"{role}=3", "--limit", f"{role}=cpus=9"]
    assert run("master", "--config", str(path), *words, "--priorities", f"{role}=4") == 0
    (settings,) = started
    terms = settings.policy.roles[role]
    assert settings.allocator == "drf"
    assert (terms.weight, terms.priority, terms.guarantee.millicpus) == (3.0, 4, 4000)
    assert terms.limit == Resources.of(cpus=9)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("offer_timout = '7s'", "there is no 'offer_timout'; known: "),
        ("config = 'x'", "there is no 'config'"),
        ("offer_timeout = [", "--config "),
        ("offer_timeout = 'soon'", "not a duration"),
        ("allocation = 3", "write allocation as a table"),
        ("[allocation]\nmodule = 3", "write the module as text"),
        ("[allocation.roles.a]\nwieght = 2", "no 'wieght'"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_status_2(
    text: str,
    complaint: str,
    tmp_path: Path,
    started: list[MasterSettings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "master.toml"
    path.write_text(text)
    assert run("master", "--config", str(path)) == 2
    assert complaint in capsys.readouterr().err
    assert not started
