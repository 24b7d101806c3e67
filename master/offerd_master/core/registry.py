"""The keys: principals of the `--authorized` file, keys enrolled since, and tokens by which others may join.

A *token* is known here by its id and its public key; the secret part is only in what `offerd token new` has printed.
While it is good, its public key may connect, but only to enrol another key. If a name or key is in the file as well,
the file counts.

The registry decides and remembers. A decision is a `Change`; the daemon writes it down before it is `apply`-ed and answered.
The registry of a leading master is part of its core: only the core changes it, by events, and the daemon looks things up. A
standby master has no core; when it has read something new it makes a new registry (`Registry.but`). `now` is seconds on a clock
that never goes back.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from offerd.ids import PeerID
from offerd.messages import Message
from offerd.values.key_names import ANOTHER_NAME, is_public_key, name_fault
from offerd_master.principals import Principal, Principals

V = TypeVar("V")

MAX_TOKENS = 1000
MAX_ENROLLED = 100_000
MAX_SPENT = 10_000
"""How many used, expired and revoked tokens are remembered, so that the log can say which of these a token was."""
MAX_TTL_S = 366 * 86_400.0

_LATE = "the token that it joins with is too old"
_REFUSALS = {
    "used": "the token that it joins with has been used",
    "late": _LATE,
    "revoked": "its key, or the token that it joins with, has been revoked",
}


class Refused(Exception):
    """The order is refused; the text is one line for its sender. `cause`: under which name it is counted, if at all."""

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Token:
    """`key` is the public key that the token proves; `rights` are those of the key that joins by it, without a name."""

    token_id: str
    key: str
    rights: Principal
    uses_left: int
    until: float
    ttl_s: float
    by: str = ""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A key that has joined. `by`: the principal that made the token."""

    key: str
    principal: Principal
    by: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that is written down: keys by their owners' names, tokens by their ids."""

    keys: Mapping[str, Enrolled] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)

    def after(self, change: Change) -> Contents:
        return Contents(_changed(self.keys, change.keys), _changed(self.tokens, change.tokens))


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written, all of it or nothing. None: the entry is removed."""

    keys: Mapping[str, Enrolled | None] = field(default_factory=dict)
    tokens: Mapping[str, Token | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """A request, and the principal that its sender has proved to be."""

    peer: PeerID
    message: Message
    who: Principal


@dataclass(frozen=True, slots=True)
class InHand:
    """An order that is being written down, with the answer and the log line for when it is."""

    order: Order
    change: Change
    answer: Message
    done: str


class Registry:
    """What one master knows of keys; a master that stands by has a registry, too."""

    def __init__(
        self,
        file: Principals | None = None,
        contents: Contents | None = None,
        before: Registry | None = None,
        refused: Mapping[str, int] | None = None,
    ) -> None:
        """`before`: what was known until now; `refused`: for which causes, and how often, connections were refused since."""
        self._file: Principals = file or {}
        self._contents = contents or Contents()
        self._spent: OrderedDict[str, str] = OrderedDict(() if before is None else before._spent)
        self.refused: Counter[str] = Counter(None if before is None else before.refused)
        self.refused.update(refused or {})
        self.principals: dict[str, Principal] = {} if before is None else before.principals
        """By public key: the owner of a connection's messages. For a token, `Principal.token` is set."""
        self.by_name: dict[str, Principal] = {}
        self.shadowed: tuple[str, ...] = ()
        """Enrolled names that do not count, because the name or its key is in the file."""
        self._arrange()

    # -- Reading --------------------------------------------------------------------------------------------------------

    @property
    def enrolled(self) -> Mapping[str, Enrolled]:
        return self._contents.keys

    @property
    def file(self) -> Principals:
        return self._file

    @property
    def authorized(self) -> Principals:
        """The principals by public key, without tokens."""
        return {key: who for key, who in self.principals.items() if not who.token}

    def good_tokens(self, now: float) -> list[Token]:
        return [token for token in self._contents.tokens.values() if now < token.until]

    def refusal(self, key: str, now: float) -> tuple[str, str]:
        """Why this public key gets no connection: the cause that is counted, and one line; two empty texts if it gets one."""
        who = self.principals.get(key)
        if who is None:
            cause = self._spent.get(key, "unknown_key")
            return cause, _REFUSALS.get(cause, f"nobody here has its key {key}")
        if who.token and now >= self._contents.tokens[who.token].until:
            return "late", _LATE
        return "", ""

    def shadows(self) -> str:
        """A line on names that are both in the file and enrolled; empty if there are none."""
        if not self.shadowed:
            return ""
        names = ", ".join(self.shadowed[:10])
        return f"the --authorized file counts for {names}, although their names or keys have also joined"

    def but(
        self,
        file: Principals | None = None,
        contents: Contents | None = None,
        refused: Mapping[str, int] | None = None,
    ) -> Registry:
        """A registry that continues this one with another file, other contents, or more refusals."""
        return Registry(
            self._file if file is None else file,
            self._contents if contents is None else contents,
            self,
            refused,
        )

    # -- decisions --------------------------------------------------------------------------------------------------------

    def new_token(
        self, key: str, rights: Principal, ttl_s: float, uses: int, by: Principal, now: float
    ) -> tuple[Token, Change]:
        """Raises `Refused`."""
        if not is_public_key(key) or key in self.principals:
            raise Refused("a token needs a public key that nobody has yet")
        if not (rights.slave or rights.operator or rights.has_frameworks):
            raise Refused("a token is for a slave, an operator or frameworks")
        if "root" in rights.users and "root" not in by.users:
            raise Refused(
                "a token that lets tasks run as root can be made only by an operator who may run as root"
            )
        if not 0 < ttl_s <= MAX_TTL_S:
            raise Refused(f"a token is good for up to {MAX_TTL_S / 86_400:g} days")
        late: dict[str, Token | None] = {}
        for token in self._contents.tokens.values():
            if now >= token.until:
                late[token.token_id] = None
                self._spend(token.key, "late")
        if len(self._contents.tokens) - len(late) >= MAX_TOKENS:
            raise Refused(
                f"there are {MAX_TOKENS} tokens already; revoke those that are not needed (`offerd token revoke`)"
            )
        token_id = hashlib.sha256(key.encode()).hexdigest()[:10]
        token = Token(token_id, key, rights, uses, now + ttl_s, ttl_s, by.name)
        return token, Change(tokens={**late, token_id: token})

    def enrol(self, token_id: str, name: str, key: str, now: float) -> tuple[Enrolled, Change | None]:
        """Raises `Refused`. The same request again, because the answer was lost, gets the same answer and changes nothing."""
        token = self._contents.tokens.get(token_id)
        if token is None:
            raise Refused("this token has been used; ask for a new one (`offerd token new`)", "used")
        if now >= token.until:
            raise Refused("this token is too old; ask for a new one (`offerd token new`)", "late")
        if fault := name_fault(name):
            raise Refused(fault, "not_valid")
        if not is_public_key(key):
            raise Refused("the key to join with is not a public key (40 characters of Z85)", "not_valid")
        known = self._contents.keys.get(name)
        if known is not None and known.key == key:
            return known, None
        if name in self.by_name or known is not None:
            raise Refused(
                f"the name {name} is taken; {ANOTHER_NAME}, or have it revoked first (`offerd keys revoke {name}`)",
                "name_taken",
            )
        if key in self.principals:
            raise Refused("this key belongs to another name already; make a new one", "not_valid")
        if len(self._contents.keys) >= MAX_ENROLLED:
            raise Refused(
                f"there are {MAX_ENROLLED} keys already; revoke those that are not needed (`offerd keys revoke`)"
            )
        enrolled = Enrolled(key, replace(token.rights, name=name), token.by)
        left = replace(token, uses_left=token.uses_left - 1) if token.uses_left > 1 else None
        return enrolled, Change({name: enrolled}, {token_id: left})

    def revoke_key(self, name: str) -> Change:
        """Raises `Refused`."""
        if name in self._contents.keys:
            return Change(keys={name: None})
        if name in self.by_name:
            raise Refused(
                f"{name} is in the master's --authorized file: remove it there, and send the master SIGHUP"
            )
        raise Refused(f"no key has joined as {name[:64]}; see `offerd keys list`")

    def revoke_token(self, token_id: str) -> Change:
        """Raises `Refused`."""
        if token_id not in self._contents.tokens:
            raise Refused(f"there is no token {token_id[:64]}; see `offerd token list`")
        return Change(tokens={token_id: None})

    # -- Changes that have been made ------------------------------------------------------------------------------------

    def apply(self, change: Change) -> frozenset[str]:
        """The change is written. Returns the public keys that are no longer authorized."""
        for token_id, left in change.tokens.items():
            before = self._contents.tokens.get(token_id)
            if left is None and before is not None and before.key not in self._spent:
                self._spend(before.key, "used" if change.keys else "revoked")
        return self.take(self._contents.after(change))

    def take(self, contents: Contents) -> frozenset[str]:
        """Replace all that is written, whoever wrote it. Returns the public keys that are no longer authorized."""
        self._contents = contents
        return self._arrange()

    def set_file(self, file: Principals) -> frozenset[str]:
        """Replace the `--authorized` file, read anew. Returns the public keys that are no longer authorized."""
        self._file = file
        return self._arrange()

    def _spend(self, key: str, cause: str) -> None:
        self._spent[key] = cause
        if len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)

    def _arrange(self) -> frozenset[str]:
        before = self.principals
        found: dict[str, Principal] = dict(self._file)
        in_file = {principal.name for principal in self._file.values()}
        shadowed = []
        for name, enrolled in self._contents.keys.items():
            if name in in_file or enrolled.key in found:
                shadowed.append(name)
            else:
                found[enrolled.key] = enrolled.principal
        self.by_name = {principal.name: principal for principal in found.values()}
        for token in self._contents.tokens.values():
            if token.key not in found:
                found[token.key] = Principal(name=f"the token {token.token_id}", token=token.token_id)
        self.principals, self.shadowed = found, tuple(shadowed)
        gone = frozenset(before.keys() - found.keys())
        for key in gone:
            if key not in self._spent:
                self._spend(key, "revoked")
        for key in found.keys() & self._spent.keys():
            del self._spent[key]
        return gone


def _changed(before: Mapping[str, V], change: Mapping[str, V | None]) -> dict[str, V]:
    after = {**before, **{name: value for name, value in change.items() if value is not None}}
    for name, value in change.items():
        if value is None:
            after.pop(name, None)
    return after
