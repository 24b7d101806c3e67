"""The TAB key: shells complete commands and options."""

from __future__ import annotations

import os
import subprocess

import pytest

from helpers.cli import words
from offerd_cli.main import main


def completed(line: str) -> list[str]:
    """What bash would offer for the last word of this line."""
    given = line.split(" ")
    environment = {
        **os.environ,
        "_OFFERD_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(given) - 1),
    }
    done = subprocess.run(words(), env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [found.split(",", 1)[1] for found in done.stdout.splitlines()]


def test_commands_subcommands_and_options_are_completed() -> None:
    assert sorted(completed("offerd sl")) == ["slave", "slaves"]
    assert completed("offerd token n") == ["new"]
    assert "--timeout" in completed("offerd run --ti")
    assert completed("offerd completion z") == ["zsh"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_that_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_OFFERD_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=60)


def test_an_unknown_shell_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
