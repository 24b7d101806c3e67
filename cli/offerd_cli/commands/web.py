"""`offerd web`: the gateway that shows the cluster in a browser and over HTTP, and the tokens for it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from offerd_cli.options import DURATION, WholeNumber, die_with_parent_option, json_option, master_option

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Directory of the history and the web tokens.  [default: /var/lib/offerd/web as root, else ~/.local/state/offerd/web]",
)


@click.group(invoke_without_command=True, short_help="Serve the cluster to browsers and scripts.")
@click.option("--ip", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=5070,
    show_default=True,
    metavar="N",
    help="Port; 0 takes a free one.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Further name by which browsers reach it; may be given several times.  [default: localhost and --ip]",
)
@state_dir_option
@click.option(
    "--address-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write the address to, as HOST:PORT.  [default: none]",
)
@die_with_parent_option
@master_option
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    master: str,
    ip: str,
    port: int,
    hosts: tuple[str, ...],
    state_dir: Path | None,
    address_file: Path | None,
    die_with_parent: bool,
) -> int:
    """Run the gateway: it follows the master, and serves a page, an HTTP API and metrics.

    \b
    offerd web
    offerd web token new --for alice

    Nobody gets in without a web token, which has the rights of its owner's key. The key that the gateway itself uses must be
    an operator's.
    """
    if context.invoked_subcommand is not None:
        return 0
    if die_with_parent:
        from offerd_linux import prctl

        prctl.end_with_parent()
    from offerd.addresses import HostPort
    from offerd_cli.web_access import check_installed

    check_installed()
    from offerd_web.gateway import GatewayOptions, run_gateway

    return run_gateway(
        GatewayOptions(
            master=master,
            listen=HostPort(ip, port),
            state_dir=state_dir or default_state_dir(),
            hosts=hosts,
            address_file=address_file,
        )
    )


def default_state_dir() -> Path:
    from offerd_cli.services import state_directory

    return state_directory() / "web"


@command.group(short_help="Make, list and revoke web tokens.")
def token() -> None:
    """Make, list and revoke the tokens with which browsers and scripts reach the gateway.

    \b
    offerd web token new --for alice --ttl 30d
    offerd web token list
    offerd web token revoke 3f9a2c11
    """


@token.command(short_help="Make a web token.")
@click.option(
    "--for",
    "owner",
    default="",
    metavar="NAME",
    help="Owner of a key, whose rights it has.  [default: your key's]",
)
@click.option(
    "--ttl",
    type=DURATION,
    default="30d",
    show_default=True,
    help="Time that the token is good for, for example 12h.",
)
@state_dir_option
@master_option
def new(*, master: str, owner: str, ttl: float, state_dir: Path | None) -> None:
    """Print a new web token. It is kept nowhere: make another one if it is lost.

    \b
    offerd web token new --for alice
    """
    from offerd_cli.web_access import owner_of_token
    from offerd_web.services.web_tokens import WebTokens

    tokens = WebTokens(state_dir or default_state_dir())
    click.echo(tokens.make(owner_of_token(master, owner), time.time(), ttl))


@token.command(name="list", short_help="List the web tokens.")
@state_dir_option
@json_option
def list_(*, state_dir: Path | None, as_json: bool) -> None:
    """List the web tokens, without their secrets.

    \b
    offerd web token list
    """
    from offerd_cli import documents, render
    from offerd_cli.fitting import Column
    from offerd_cli.screen import say
    from offerd_cli.units import format_duration
    from offerd_web.services.web_tokens import WebTokens

    now = time.time()
    known = WebTokens(state_dir or default_state_dir()).known()
    if as_json:
        rows = [
            {
                "token_id": each.token_id,
                "owner": each.owner,
                "made_at": each.made_at,
                "expires_at": each.expires_at,
            }
            for each in known
        ]
        documents.print_document({"tokens": list(rows)})
        return
    if not known:
        say("no web tokens; `offerd web token new` makes one")
        return
    table = render.FittedTable(Column("TOKEN"), Column("OWNER", cuts=True), Column("MADE"), Column("EXPIRES"))
    for each in known:
        left = "never" if each.expires_at is None else f"in {format_duration(each.expires_at - now)}"
        left = left if each.is_good(now) else "expired"
        table.add_row(
            each.token_id,
            each.owner or "-",
            f"{format_duration(now - each.made_at)} ago",
            left if each.is_good(now) else "expired",
        )
    render.print_table(render.console(), table)


@token.command(short_help="Revoke web tokens.")
@click.argument("token", metavar="TOKEN")
@state_dir_option
def revoke(*, token: str, state_dir: Path | None) -> None:
    """Revoke the web TOKEN with this id, or all of the owner with this name.

    \b
    offerd web token revoke 3f9a2c11
    """
    from offerd_web.services.web_tokens import WebTokens

    WebTokens(state_dir or default_state_dir()).revoke(token)
