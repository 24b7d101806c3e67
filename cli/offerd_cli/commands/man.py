"""`offerd man`: manual pages, made from the help texts."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write manual pages, made from these help texts.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def command(*, directory: Path) -> None:
    """Write a manual page for each command into DIRECTORY/man1, for man(1).

    \b
    offerd man ~/.local/share/man        # for this account
    offerd man /usr/local/share/man      # for all accounts, as root
    """
    from offerd.errors import BadInput
    from offerd_cli.main import cli
    from offerd_cli.man_pages import pages

    folder, number = directory / "man1", 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages(cli):
            (folder / name).write_text(text, encoding="utf-8")
            number += 1
    except OSError as error:
        raise BadInput(f"cannot write manual pages to {folder}: {error.strerror}") from None
    click.echo(f"wrote {number} pages to {folder}; try man offerd-run")
