"""`offerd completion`: the script with which a shell completes offerd's words."""

from __future__ import annotations

import click


@click.command(short_help="Print the script that makes a shell complete offerd's words.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    """Print the script that makes a shell complete offerd's words at the TAB key.

    \b
    eval "$(offerd completion bash)"    # bash; put it into ~/.bashrc to keep it
    eval "$(offerd completion zsh)"     # zsh; put it into ~/.zshrc to keep it
    offerd completion fish >~/.config/fish/completions/offerd.fish
    """
    from click.shell_completion import get_completion_class

    from offerd_cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells named above"
    script = kind(cli, {}, "offerd", "_OFFERD_COMPLETE")
    # Not `source()`: it runs bash to ask its version, and the script may be read on another host.
    click.echo(script.source_template % script.source_vars())
