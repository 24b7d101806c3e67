"""What every help text has: a line that says what the command does, examples that can be pasted, options that say what they do.

The rules are coarse on purpose; they find a text that was written in a hurry.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator

import click
import pytest

from offerd_cli import config_file, master_file
from offerd_cli.main import cli
from offerd_cli.options import Duration

MAX_EXAMPLE_COLUMNS = 76
"""As wide as a terminal of 80 columns shows of a line that is not filled, which keeps its two blanks in front."""
OPENINGS = frozenset(
    [
        *(
            "a",
            "all",
            "also",
            "an",
            "as",
            "at",
            "both",
            "by",
            "each",
            "every",
            "for",
            "from",
            "he",
            "her",
            "his",
            "how",
            "if",
        ),
        *(
            "in",
            "it",
            "its",
            "less",
            "more",
            "most",
            "no",
            "not",
            "of",
            "on",
            "only",
            "our",
            "same",
            "she",
            "so",
            "such",
        ),
        *(
            "that",
            "the",
            "their",
            "them",
            "they",
            "this",
            "those",
            "to",
            "under",
            "until",
            "up",
            "what",
            "when",
            "where",
        ),
        *("whether", "which", "who", "whose", "with", "without", "you", "your"),
    ]
)
"""Words with which a text about an option begins that says neither what to do nor what the value is."""
RIDDLES = re.compile(r"\b(he|she|him|her|his|hers|himself|herself)\b", re.IGNORECASE)
TIME = re.compile(r"\b[0-9.]+(ms|s|m|h|d)\b|\[default: (none|never)\]|[Tt]ime")
SIZE = re.compile(r"\b[0-9]+[KMG]\b")
COUNTED = re.compile(r"\b([Nn]umbers?|[Pp]ort|[Ff]raction|CPUs)\b")
END = re.compile(r"(\.|\])$")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and sub-command under the words that call it."""

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


def paragraphs(command: click.Command) -> list[str]:
    """Of its help, each without the docstring's indentation."""
    return inspect.cleandoc(command.help or "").split("\n\n")


def examples(command: click.Command) -> list[str]:
    """The lines that stand as they are below the first paragraph; a line that goes on in the next is one with it."""
    _, block, *_ = [*paragraphs(command), "", ""]
    if not block.startswith("\b\n"):
        return []
    lines = block.removeprefix("\b\n").replace("\\\n", "").replace("&&\n", "&& ").splitlines()
    return [" ".join(line.split(" # ")[0].split()) for line in lines]


def calls(example: str) -> Iterator[list[str]]:
    """The words of each call of offerd in a line for a shell, without what redirects or follows it."""
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
    assert not RIDDLES.search(said), said
    assert not re.search(r" (TEXT|INTEGER|INTEGER RANGE|FLOAT RANGE|PATH)$", shown), (
        "the value has no name of its own"
    )
    if isinstance(option.type, Duration):
        assert TIME.search(text), text
    elif "SIZE" in shown:
        assert SIZE.search(text), text
    elif re.search(r" (N|FRACTION|CPUS)$", shown):
        assert COUNTED.search(text), text


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_and_its_processes_are_no_persons(path: str) -> None:
    command = COMMANDS[path]
    assert not RIDDLES.search(command.help or "")
    assert not RIDDLES.search(command.get_short_help_str(300))


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


def test_a_text_of_a_hurry_is_found() -> None:
    assert "of" in OPENINGS
    assert not COUNTED.search("How many.")
    assert not SIZE.search("Memory of each task.")
    assert RIDDLES.search("Whoever has one makes his own key")
