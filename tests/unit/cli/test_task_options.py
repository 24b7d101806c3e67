"""The options that all commands that start tasks share."""

from __future__ import annotations

import click
import pytest

from offerd_cli.main import cli, main

SHARED = {"--cpus", "--mem", "--env", "--user", "--role", "--attributes", "--name", "--timeout"}
ALL = SHARED | {"--long", "--image", "--pull", "--cwd"}


def options(command: str) -> dict[str, click.Parameter]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    return {name: option for option in found.params for name in option.opts}


@pytest.mark.parametrize(
    ("command", "expected"), [("run", ALL), ("map", ALL), ("mapreduce", SHARED), ("mpi", SHARED)]
)
def test_all_commands_that_start_tasks_have_one_set_of_options(command: str, expected: set[str]) -> None:
    assert expected <= options(command).keys()
    for name in ("--user", "--role", "--attributes"):
        mine, others = options(command)[name], options("run")[name]
        assert isinstance(mine, click.Option)
        assert isinstance(others, click.Option)
        assert (mine.help, mine.envvar) == (others.help, others.envvar)


@pytest.mark.parametrize("command", [("run", "--"), ("map", ":::")])
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--long", "--timeout", "5s"], "--long means no time limit"),
        (["--timeout", "0s"], "--timeout must be longer than 0s"),
        (["--pull", "always"], "--pull needs an image"),
        (["-e", "x"], "--env 'x' cannot be read; write KEY=VALUE"),
        (["--attributes", "rack"], "--attributes 'rack' cannot be read"),
        (["--cpus", "0", "--mem", "0"], "a task needs some resources"),
    ],
)
def test_bad_values_are_refused_by_each_command(
    command: tuple[str, str], options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, separator = command
    words = [separator, "true"] if name == "run" else ["true", separator, "a"]
    assert main([name, *options, *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
