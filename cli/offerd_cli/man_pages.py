"""Manual pages (man 7 man-pages), made from the help of each command, so that both say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version

import click

_SECTION = "1"


def pages(root: click.Group) -> Iterator[tuple[str, str]]:
    """The file name and roff text of each page: one for offerd, one for each command and sub-command."""
    yield from _pages(root, click.Context(root, info_name="offerd"))


def _pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    own: dict[str, str] = {}
    children: list[tuple[click.Command, click.Context]] = []
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, "a group knows the commands that it lists"
            own[name] = child.get_short_help_str(200)
            children.append((child, click.Context(child, info_name=name, parent=context)))
    yield _file_name(context), _page(command, context, own)
    for child, its_context in children:
        yield from _pages(child, its_context)


def _file_name(context: click.Context) -> str:
    return f"{context.command_path.replace(' ', '-')}.{_SECTION}"


def _page(command: click.Command, context: click.Context, commands: dict[str, str]) -> str:
    path = context.command_path
    title = path.replace(" ", "-")
    lines = [
        f'.TH "{title.upper()}" "{_SECTION}" "" "offerd {version("offerd")}" "offerd"',
        ".SH NAME",
        f"{_plain(title)} \\- {_plain(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_plain(path)}",
        _plain(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_description(command.help or ""),
    ]
    options = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    for heading, records in (("OPTIONS", options), ("COMMANDS", list(commands.items()))):
        if records:
            lines.append(f".SH {heading}")
        for name, text in records:
            lines += [".TP", f".B {_plain(name)}", _plain(text)]
    others = [context.parent.command_path.replace(" ", "-")] if context.parent is not None else []
    others += [f"{title}-{name}" for name in commands]
    if others:
        lines += [".SH SEE ALSO", ", ".join(f"\\fB{_plain(each)}\\fR({_SECTION})" for each in others)]
    return "\n".join(lines) + "\n"


def _description(text: str) -> Iterator[str]:
    """Fill paragraphs, except those that click leaves as they are (`\\b`): they keep their lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        if paragraph.lstrip().startswith("\b"):
            yield ".nf"
            yield from (_plain(line.strip("\b")) for line in paragraph.splitlines() if line.strip("\b "))
            yield ".fi"
        else:
            yield _plain(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """A line without roff commands (man 7 groff, "Escapes")."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
