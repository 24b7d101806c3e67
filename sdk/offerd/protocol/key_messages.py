"""The part of the protocol about keys: tokens by which hosts and people join, and keys that are enrolled and revoked.

Same rules as `offerd.messages`. Public keys are texts of 40 characters (Z85). `offerd.operator_messages` has these names, too.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offerd.messages import PROTOCOL, Message, Value
from offerd.values.bounds import A_PAGE, Count, Name, PageSize, Protocol, Seconds, Tallies, WishedSeconds

KeyName = Annotated[str, Meta(max_length=64)]
"""The name of a key's owner or of a token, or a public key."""
RolesOrUsers = Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=100)]

# -- Values -------------------------------------------------------------------------------------------------------------


class Rights(Value, frozen=True):
    """What the owner of a key may do, as a table of the master's `--authorized` file says it."""

    slave: bool = False
    """Be a slave."""
    operator: bool = False
    """See all, drain slaves, end tasks, and let others join."""
    roles: RolesOrUsers = []
    """Have frameworks of these roles."""
    users: RolesOrUsers = []
    """Have executors that run as these accounts."""
    every_role: bool = False
    """Have frameworks of any role."""
    every_user: bool = False
    """Have executors that run as any account but root."""


class TokenSummary(Value, frozen=True):
    """A token that is still good, as listed."""

    token_id: KeyName
    """Its name in listings; not the secret."""
    rights: Rights
    """What those who join with it may do."""
    uses_left: Count
    """How many more keys may be enrolled with it."""
    left_s: Seconds
    """How long it is still good."""
    by: Name = ""
    """Who made it."""


class KeySummary(Value, frozen=True):
    """A key that the master knows, as listed."""

    name: KeyName
    """Its owner's name."""
    key: KeyName
    """The public key."""
    rights: Rights
    """What its owner may do."""
    is_enrolled: bool
    """Its owner joined with a token. Otherwise the key is in the `--authorized` file."""
    by: Name = ""
    """Who made that token."""


# -- Questions ----------------------------------------------------------------------------------------------------------


class NewToken(Message, frozen=True):
    """Let others join: whoever holds the secret key to this public key may enrol keys. Answered by `Token`."""

    key: KeyName
    """The public key that the token's secret belongs to; the secret itself is never sent."""
    rights: Rights
    """What those who join may do."""
    ttl_s: WishedSeconds = 3600.0
    """How long the token is good."""
    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """How many keys may be enrolled with it."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class GetTokens(Message, frozen=True):
    """List the tokens that are still good. Answered by `Tokens`."""

    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class RevokeToken(Message, frozen=True):
    """Nobody may join with this token from now on. Answered by `Done`."""

    token_id: KeyName
    """The token's name in listings."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class Enrol(Message, frozen=True):
    """Enrol a key; sent over a connection with a token's key. Answered by `Enrolled`."""

    name: KeyName
    """Its owner's name from now on."""
    key: KeyName
    """The public key."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class GetKeys(Message, frozen=True):
    """List the keys that the master knows. Answered by `Keys`."""

    after: KeyName = ""
    """The last name of the page before."""
    limit: PageSize = 500
    """How many to list; a page holds 1,000 at most."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


class RevokeKey(Message, frozen=True):
    """The master does not know this key from now on. Answered by `Done`."""

    name: KeyName
    """Its owner's name."""
    protocol: Protocol = PROTOCOL
    """The sender's version of the protocol."""


# -- Answers ------------------------------------------------------------------------------------------------------------


class Token(Message, frozen=True):
    """The master knows the token now."""

    token_id: KeyName
    """Its name in listings."""
    ttl_s: Seconds
    """How long it is good."""


class Tokens(Message, frozen=True):
    """The tokens that are still good."""

    tokens: Annotated[list[TokenSummary], A_PAGE]
    """In the order in which they expire."""
    refused: Tallies = {}
    """How often a join was refused, by cause: `used`, `late`, `revoked`, `unknown_key`, `name_taken`, `not_valid`."""


class Enrolled(Message, frozen=True):
    """The key is written down, and good from now on."""

    name: KeyName
    """Its owner's name."""
    rights: Rights
    """What its owner may do."""


class Keys(Message, frozen=True):
    """The keys that the master knows."""

    keys: Annotated[list[KeySummary], A_PAGE]
    """By name."""
    more: bool = False
    """There are more: ask again with the last name as `after`."""
