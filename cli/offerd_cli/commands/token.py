"""`offerd token`: the tokens by which other hosts and people join the cluster."""

from __future__ import annotations

import click

from offerd.errors import OfferdError
from offerd_cli.options import DURATION, WholeNumber, json_option, master_option


@click.group(short_help="Make the tokens by which hosts and people join the cluster.")
def command() -> None:
    """Make the tokens by which hosts and people join: a token is a secret text with which its holder can enrol a new key.

    \b
    offerd token new --slave                       # for a host
    offerd slave join 10.0.0.1:5060 TOKEN           # there, as root
    offerd token new --framework science,alice     # for a person
    offerd cluster join prod 10.0.0.1:5060 TOKEN    # typed by alice
    """


@command.command(short_help="Make a token.")
@click.option("--slave", is_flag=True, help="Make a token for a host that runs tasks.")
@click.option(
    "--operator",
    is_flag=True,
    help="Make a token for an operator, who may see, kill and drain everything, and let others join.",
)
@click.option(
    "--framework",
    "frameworks",
    multiple=True,
    metavar="ROLE,USER[,USER...]",
    help="Make a token for frameworks of this role that run as these users; may be repeated.",
)
@click.option(
    "--ttl", type=DURATION, default="1h", show_default=True, help="Time after which the token expires."
)
@click.option(
    "--uses",
    type=WholeNumber(1, 1_000_000),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of hosts or people that may join with the token.",
)
@master_option
def new(
    *, master: str, slave: bool, operator: bool, frameworks: tuple[str, ...], ttl: float, uses: int
) -> None:
    """Make a token by which a host or a person can join, and print it on stdout.

    \b
    offerd token new --slave
    offerd token new --framework science,alice --ttl 1d

    Anybody who has the token can join with it, so pass it on in private.
    """
    import zmq

    from offerd.operator import OperatorClient
    from offerd_cli.join_tokens import make_token
    from offerd_cli.key_listings import parse_rights, rights_text
    from offerd_cli.screen import say
    from offerd_cli.units import format_duration

    rights = parse_rights(slave=slave, operator=operator, frameworks=frameworks)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with OperatorClient(master) as client:
        if not client.master_key:
            raise OfferdError(
                "this cluster has no keys, so nobody needs a token to join; `offerd master init` makes a cluster with keys"
            )
        # The secret part stays here: the master gets only the public key.
        token = client.new_token(public, rights, ttl_s=ttl, uses=uses)
        where = client.address.removeprefix("tcp://")
        click.echo(make_token(client.master_key, secret))
    joins = f"offerd slave join {where} TOKEN" if slave else f"offerd cluster join NAME {where} TOKEN"
    number = "once" if uses == 1 else f"{uses} times"
    say(f"the token is good {number} within {format_duration(ttl)} ({rights_text(rights)}); to join: {joins}")
    say(f"to revoke it: offerd token revoke {token.token_id}")


@command.command("list", short_help="List the tokens that have not expired.")
@json_option
@master_option
def list_tokens(*, master: str, as_json: bool) -> None:
    """List the tokens that have not expired or been used up, by their ids.

    \b
    offerd token list

    The tokens themselves are not shown: they were printed only once.
    """
    from offerd.operator import OperatorClient
    from offerd_cli import documents, key_listings, render
    from offerd_cli.screen import say

    with OperatorClient(master) as client:
        tokens = client.tokens()
    if as_json:
        documents.print_document(key_listings.tokens_document(tokens))
        return
    if tokens.tokens:
        render.print_table(render.console(), key_listings.tokens_table(tokens.tokens))
    else:
        say("there are no valid tokens; make one: offerd token new")
    if text := key_listings.refused_text(tokens.refused):
        say(text)


@command.command(short_help="Revoke a token.")
@master_option
@click.argument("token", metavar="TOKEN-ID")
def revoke(*, master: str, token: str) -> None:
    """Revoke a token, named by the id that `offerd token list` shows.

    \b
    offerd token revoke 21c3883ab1

    Keys that have joined with it stay valid; revoke them with `offerd keys revoke`.
    """
    from offerd.operator import OperatorClient

    with OperatorClient(master) as client:
        client.revoke_token(token)
