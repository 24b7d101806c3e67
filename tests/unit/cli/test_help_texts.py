"""What every help text must have: a line that says what the command does, examples that can be pasted, and for each option
what it does, with unit and default.

The rules are coarse; they find a text that was written in a hurry.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from offerd_cli import config_file, master_file
from offerd_cli.main import cli
from offerd_cli.options import Duration
from offerd_cli.slave_options import default_work_dir
from offerd_master.key_file import default_state_dir

MAX_EXAMPLE_COLUMNS = 76
"""The width that an unfilled line may have on a terminal of 80 columns, where it is indented."""
OPENINGS = frozenset(
    re.findall(
        r"\w+",
        "a all also an as at both by each every for from how if in it its less more most no not of on only "
        "our same so such that the their them they this those to under until up what when where whether which "
        "who whose with without you your ",
    )
)
"""First words of texts about an option that say neither what to do nor what the value is."""
TIME = re.compile(r"\b[0-9.]+(ms|s|m|h|d)\b|\[default: (none|never)\]|[Tt]ime")
SIZE = re.compile(r"\b[0-9]+[KMG]\b")
COUNTED = re.compile(r"\b([Nn]umbers?|[Pp]ort|[Ff]raction|CPUs)\b")
DEFAULT = re.compile(r"\bdefault: \S")
END = re.compile(r"(\.|\])$")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and sub-command with the words that call it."""

    def below(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
        yield context.command_path, command
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                yield from below(child, click.Context(child, info_name=name, parent=context))

    yield from below(cli, click.Context(cli, info_name="offerd"))


COMMANDS = dict(commands())
OPTIONS = {
    f"{path} {option.opts[-1]}": option
    for path, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
}


def takes_one_value(option: click.Option) -> bool:
    """Whether an option has one value, which has a default if the option is not given."""
    return not (option.is_flag or option.multiple or option.required)


def paragraphs(command: click.Command) -> list[str]:
    """The paragraphs of its help, without the docstring's indentation."""
    return inspect.cleandoc(command.help or "").split("\n\n")


def examples(command: click.Command) -> list[str]:
    """The lines of the block after the first paragraph; a line that is continued is joined with the next."""
    _, block, *_ = [*paragraphs(command), "", ""]
    if not block.startswith("\b\n"):
        return []
    lines = block.removeprefix("\b\n").replace("\\\n", "").replace("&&\n", "&& ").splitlines()
    return [" ".join(line.split(" # ")[0].split()) for line in lines]


def calls(example: str) -> Iterator[list[str]]:
    """The words of each call of offerd in a shell line, without redirections and other commands."""
    for substituted in re.findall(r'"\$\((.*?)\)"', example):
        yield shlex.split(substituted)
    words = shlex.shlex(example, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    words.commenters = ""
    call: list[str] = []
    for word in [*words, "|"]:
        if word in ("|", "&&", ";", "<", ">"):
            if call and call[0] == "offerd":
                yield call
            call = ["into a file"] if word in ("<", ">") else []
        else:
            call.append(word)


@pytest.mark.parametrize("path", COMMANDS)
def test_a_help_text_says_what_the_command_does_and_shows_how(path: str) -> None:
    command = COMMANDS[path]
    first = paragraphs(command)[0]
    assert first.split()[0].lower() not in OPENINGS, first
    assert first.endswith((".", ":")), first
    least = 1 if len(path.split()) > 2 else 2
    shown = examples(command)
    assert len(shown) >= least, shown
    assert any(path in line for line in shown), "none of them is of this command"


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_fit_a_terminal_of_80_columns(path: str) -> None:
    for paragraph in paragraphs(COMMANDS[path]):
        if paragraph.startswith("\b\n"):
            assert [line for line in paragraph.splitlines() if len(line) > MAX_EXAMPLE_COLUMNS] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_the_words_of_each_example_are_taken(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    for module in (config_file, master_file):
        monkeypatch.setattr(module, "read_config", lambda _: {})
    for name in ("OFFERD_KEY", "OFFERD_MASTER_KEY"):
        monkeypatch.setenv(name, "")
    parsed = 0
    for example in examples(COMMANDS[path]):
        for words in calls(example):
            cli.main(words[1:], prog_name="offerd", standalone_mode=False)
            parsed += 1
    assert parsed


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_says_what_it_does_or_what_its_value_is(name: str) -> None:
    option = OPTIONS[name]
    context = click.Context(COMMANDS[name.rpartition(" ")[0]])
    record = option.get_help_record(context)
    assert record is not None
    shown, text = record
    said = (option.help or "").partition("  [")[0]
    assert len(said.split()) >= 3, said
    assert said.split()[0].lower() not in OPENINGS, said
    assert said[0].isupper(), said
    assert END.search(text), text
    assert not re.search(r" (TEXT|INTEGER|INTEGER RANGE|FLOAT RANGE|PATH)$", shown), (
        "the value has no name of its own"
    )
    if isinstance(option.type, Duration):
        assert TIME.search(text), text
    elif "SIZE" in shown:
        assert SIZE.search(text), text
    elif re.search(r" (N|FRACTION|CPUS)$", shown):
        assert COUNTED.search(text), text


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if takes_one_value(option)])
def test_an_option_with_a_value_shows_its_default(name: str) -> None:
    record = OPTIONS[name].get_help_record(click.Context(COMMANDS[name.rpartition(" ")[0]]))
    assert record is not None
    assert DEFAULT.search(record[1]), record[1]


@pytest.mark.parametrize("path", COMMANDS)
def test_the_line_in_a_list_of_commands_says_what_the_command_does(path: str) -> None:
    short = COMMANDS[path].get_short_help_str(300)
    assert short.endswith(".")
    assert short.split()[0].lower() not in OPENINGS, short


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("offerd run -- true", [["offerd", "run", "--", "true"]]),
        ("find . | offerd map -0 -- cat :::: -", [["offerd", "map", "-0", "--", "cat", "::::", "-"]]),
        ("offerd metrics >a && mv a b", [["offerd", "metrics"]]),
        ('eval "$(offerd completion bash)"', [["offerd", "completion", "bash"]]),
    ],
)
def test_calls_are_found_in_what_a_shell_is_given(line: str, expected: list[list[str]]) -> None:
    assert list(calls(line)) == expected


def test_a_bad_help_text_is_found() -> None:
    assert "of" in OPENINGS
    assert not COUNTED.search("How many.")
    assert not SIZE.search("Memory of each task.")
    assert not DEFAULT.search("Memory of each task, for example 2G.")


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize(
    ("command", "option", "directory"),
    [("master", "--state-dir", default_state_dir), ("slave", "--work-dir", default_work_dir)],
)
def test_the_help_names_the_default_directory_of_root_and_of_others(
    command: str, option: str, directory: Callable[[], Path], uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setenv("HOME", "/somewhere")
    for variable in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    shown = str(directory()).replace("/somewhere", "~")
    assert re.search(rf"{re.escape(shown)}( as root|\])", OPTIONS[f"offerd {command} {option}"].help or "")


def test_every_option_that_takes_a_duration_calls_it_so() -> None:
    durations = {name: option for name, option in OPTIONS.items() if isinstance(option.type, Duration)}
    assert {n for n, option in durations.items() if option.metavar not in (None, "DURATION")} == set()
