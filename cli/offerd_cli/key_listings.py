"""Keys and join words in the listings of `offerd keys list` and `offerd token list`, and how rights are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from offerd.errors import BadInput
from offerd.operator_messages import KeySummary, Rights, Tokens, TokenSummary
from offerd_cli.documents import Document
from offerd_cli.units import format_duration

if TYPE_CHECKING:
    from offerd_cli.render import FittedTable


def parse_rights(*, slave: bool, operator: bool, frameworks: Iterable[str]) -> Rights:
    """The rights that a token is to give. `frameworks`: each `ROLE,USER[,USER...]`. Raises `BadInput` with one line."""
    roles: list[str] = []
    users: list[str] = []
    for text in frameworks:
        role, comma, rest = text.partition(",")
        if not role or not comma:
            raise BadInput(
                f"--framework {text!r}: write ROLE,USER[,USER...], for example science,alice; an empty USER is "
                "the slave's default user"
            )
        roles += [role] if role not in roles else []
        users += [user for user in rest.split(",") if user not in users]
    if slave and (operator or roles):
        raise BadInput("a token for a slave gives no other rights: leave out --operator and --framework")
    if not (slave or operator or roles):
        raise BadInput(
            "say what the token is for: --slave for another host; --operator, --framework ROLE,USER or both for a person"
        )
    return Rights(slave=slave, operator=operator, roles=roles, users=users)


def rights_text(rights: Rights) -> str:
    """Rights in words, as `offerd token new` takes them."""
    words = [word for word, has in (("slave", rights.slave), ("operator", rights.operator)) if has]
    if rights.roles or rights.every_role:
        words.append("every role" if rights.every_role else f"roles {','.join(rights.roles)}")
    users = [user or "(default)" for user in rights.users]
    if rights.every_user:  # root and the slave's default user must be named, others need not
        named = [user for user in users if user == "(default)"]
        words.append(", ".join(["every user" if "root" in users else "every user except root", *named]))
    elif users:
        words.append(f"users {','.join(users)}")
    return "; ".join(words)


def tokens_table(tokens: Iterable[TokenSummary]) -> FittedTable:
    from offerd_cli.fitting import Column
    from offerd_cli.render import FittedTable

    table = FittedTable(
        Column("TOKEN"),
        Column("FOR", worth=80, wraps=True),
        Column("USES LEFT", "right", worth=60),
        Column("ENDS IN", "right", worth=70),
        Column("BY", worth=50, cuts=True),
    )
    for token in tokens:
        table.add_row(
            token.token_id,
            rights_text(token.rights),
            str(token.uses_left),
            format_duration(token.left_s),
            token.by,
        )
    return table


def keys_table(keys: Iterable[KeySummary]) -> FittedTable:
    from offerd_cli.fitting import Column
    from offerd_cli.render import FittedTable

    table = FittedTable(
        Column("NAME"),
        Column("MAY BE", worth=80, wraps=True),
        Column("KNOWN BY", worth=50),
        Column("KEY", worth=60),
    )
    for key in keys:
        known_by = f"token of {key.by}" if key.is_enrolled else "--authorized file"
        table.add_row(key.name, rights_text(key.rights), known_by, key.key)
    return table


def refused_text(refused: dict[str, int]) -> str:
    """A line on refused connections and enrolments; empty if none was refused."""
    what = {
        "used": "with a used token",
        "late": "with an expired token",
        "revoked": "with a revoked key or token",
        "unknown_key": "with an unknown key or token",
        "name_taken": "for a name that is in use",
        "not_valid": "for a name or key that is not valid",
    }
    parts = [f"{number} {what.get(cause, cause)}" for cause, number in refused.items() if number]
    return f"refused since the master's start: {', '.join(parts)}" if parts else ""


def rights_document(rights: Rights) -> Document:
    return {
        "slave": rights.slave,
        "operator": rights.operator,
        "roles": list(rights.roles),
        "users": list(rights.users),
        "every_role": rights.every_role,
        "every_user": rights.every_user,
    }


def tokens_document(tokens: Tokens) -> Document:
    return {
        "tokens": [
            {
                "token_id": token.token_id,
                **rights_document(token.rights),
                "uses_left": token.uses_left,
                "left_s": token.left_s,
                "by": token.by,
            }
            for token in tokens.tokens
        ],
        "refused": dict(tokens.refused),
    }


def keys_document(keys: Iterable[KeySummary]) -> Document:
    return {
        "keys": [
            {
                "name": key.name,
                "key": key.key,
                **rights_document(key.rights),
                "enrolled": key.is_enrolled,
                "by": key.by,
            }
            for key in keys
        ]
    }
