"""Commands and options of `offerd` that documents show must exist."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from helpers.documents import ROOT, commands, documents
from offerd_cli.main import cli

_INLINE = re.compile(r"`(offerd [a-z][^`\n]*)`")


def shown(document: str) -> list[str]:
    """Every command that begins with `offerd`, in blocks and in sentences."""
    in_blocks = [part for line in commands(document) for part in re.split(r"&&", line)]
    found = [part[part.index("offerd ") :] for part in in_blocks if re.match(r"\S*\s*(\S*/)?offerd ", part)]
    return found + _INLINE.findall((ROOT / document).read_text())


def words_of(command: str) -> list[str]:
    """The words up to what is not offerd's: after `--`, or another command."""
    words = shlex.split(command)
    return words[: next((at for at, word in enumerate(words) if word in ("--", "|")), len(words))]


def faults(command: str) -> list[str]:
    """The parts of it that do not exist."""
    _, *words = words_of(command)
    found: click.Command = cli
    context = click.Context(cli)
    while isinstance(found, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*(\|[a-z-]+)*", words[0]):
        names, words = words[0].split("|"), words[1:]
        inner = [found.get_command(context, name) for name in names]
        if None in inner:
            # `offerd slave` is a command and a group; in a sentence any word may follow it.
            return [f"{command}: no command {names}"] if not found.invoke_without_command else []
        assert inner[0] is not None
        found = inner[0]
    known = {name for option in found.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    options = [each for word in words for each in re.findall(r"^\[?(--?[a-z][\w-]*)", word)]
    return [f"{command}: no option {option}" for option in options if option not in known]


@pytest.mark.parametrize("document", documents())
def test_every_command_and_option_named_in_a_document_exists(document: str) -> None:
    assert [fault for command in shown(document) for fault in faults(command)] == []


def test_a_missing_command_or_option_is_found() -> None:
    assert faults("offerd run --no-such-option -- true --other") == [
        "offerd run --no-such-option -- true --other: no option --no-such-option"
    ]
    assert faults("offerd no-such-command") == ["offerd no-such-command: no command ['no-such-command']"]
    assert faults("offerd keys revoke|list NAME") == []
