"""Manual pages have the contents of the help, and nothing in it is taken for a roff command."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from offerd_cli.main import COMMANDS, cli, main
from offerd_cli.man_pages import pages


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return dict(pages(cli))


def test_every_command_and_every_option_has_its_place(made: dict[str, str]) -> None:
    assert {f"offerd-{name}.1" for name in COMMANDS} | {"offerd.1", "offerd-token-new.1"} <= made.keys()
    run = cli.get_command(click.Context(cli), "run")
    assert run is not None
    for option in run.params:
        for name in option.opts if isinstance(option, click.Option) and not option.hidden else ():
            assert name.replace("-", "\\-") in made["offerd-run.1"], name
    assert ".SH SEE ALSO\n\\fBofferd\\fR(1)" in made["offerd-run.1"]


def test_no_line_of_text_is_taken_for_a_macro(made: dict[str, str]) -> None:
    ours = {".TH", ".SH", ".B", ".TP", ".PP", ".nf", ".fi"}
    for name, text in made.items():
        for line in text.splitlines():
            assert not line.startswith("'"), (name, line)
            assert not line.startswith(".") or line.split()[0] in ours, (name, line)
    assert "offerd local \\-\\-slaves 3" in made["offerd.1"]


def test_pages_are_written_where_man_looks_and_a_bad_place_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["man", str(tmp_path)]) == 0
    assert (tmp_path / "man1/offerd-run.1").read_text().startswith('.TH "OFFERD-RUN" "1"')
    assert " pages to " in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main(["man", str(tmp_path / "file" / "x")]) == 2
    assert "Not a directory" in capsys.readouterr().err
