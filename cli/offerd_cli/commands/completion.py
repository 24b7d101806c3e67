"""`offerd completion`: what makes a shell complete offerd's words."""

from __future__ import annotations

import click


@click.command(short_help="Print what makes a shell complete the words of offerd.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    """Print the script that makes a shell complete the words of offerd at the TAB key.

    \b
    eval "$(offerd completion bash)"    # bash; in ~/.bashrc for good
    eval "$(offerd completion zsh)"     # zsh; in ~/.zshrc for good
    offerd completion fish >~/.config/fish/completions/offerd.fish
    """
    from click.shell_completion import get_completion_class

    from offerd_cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells named above"
    script = kind(cli, {}, "offerd", "_OFFERD_COMPLETE")
    # Not `source()`, which runs bash to ask for its version: this host's may be another than the one that reads the script.
    click.echo(script.source_template % script.source_vars())
