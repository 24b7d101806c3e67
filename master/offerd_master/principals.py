"""Rights: the principals of a master's `--authorized` file, one table for each.

    [host7]                      # a slave
    key = "40 characters"
    slave = true

    [alice]                      # a person or program with frameworks
    key = "40 characters"
    roles = ["science"]          # and roles within it; "*" is the common one
    users = ["alice"]            # as which tasks run; the first is the default; "" is the slave's own

    [science-portal]
    key = "40 characters"
    every_role = true
    every_user = true            # except root, which must be in `users`

    [ops]
    key = "40 characters"
    operator = true

Ids that a master gives under keys end with `@` and the principal's name. So an id shows its owner, even to a new master.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from offerd.errors import BadInput
from offerd.ids import owner_of as owner_of
from offerd.operator_messages import Rights
from offerd.values.key_names import is_public_key, name_fault
from offerd_master.allocation.policy import paths, role_fault

_KINDS: dict[str, type] = {
    "key": str,
    "slave": bool,
    "operator": bool,
    "roles": list,
    "users": list,
    "every_role": bool,
    "every_user": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The owner of a key, and its rights. A role includes the roles within it. `users` may hold "", the slave's own user;
    `every_user` includes neither that nor root. A principal with a `token` may enrol a key, and nothing else.
    """

    name: str
    slave: bool = False
    operator: bool = False
    roles: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    every_role: bool = False
    every_user: bool = False
    token: str = ""

    @property
    def has_frameworks(self) -> bool:
        """Whether it may have frameworks."""
        return self.every_role or bool(self.roles)

    @property
    def default_user(self) -> str:
        """The user as which tasks run if none is named."""
        return self.users[0] if self.users else ""

    def may_have_role(self, role: str) -> bool:
        return self.every_role or any(path in self.roles for path in paths(role))

    def may_run_as(self, user: str) -> bool:
        """Whether its frameworks may run as this user; "" is each slave's own user."""
        return user in self.users or (self.every_user and user not in ("", "root"))

    def owns(self, some_id: str) -> bool:
        """Whether this slave or framework id was given to it."""
        return owner_of(some_id) == self.name


NOBODY = Principal(name="(a key taken away)")
"""The owner of connections whose key has just been taken away."""
Principals = Mapping[str, Principal]
"""By public key."""


def principal_of(rights: Rights, name: str = "") -> Principal:
    """Raises `BadInput` on rights that the file could not express either."""
    return _checked(
        name,
        slave=rights.slave,
        operator=rights.operator,
        roles=rights.roles,
        users=rights.users,
        every_role=rights.every_role,
        every_user=rights.every_user,
    )


def table_of(principal: Principal) -> dict[str, Any]:
    """The table of the file for this principal, without the key."""
    return {entry: value for entry, value in msgspec.structs.asdict(rights_of(principal)).items() if value}


def rights_of(principal: Principal) -> Rights:
    """For listings."""
    return Rights(
        slave=principal.slave,
        operator=principal.operator,
        roles=list(principal.roles),
        users=list(principal.users),
        every_role=principal.every_role,
        every_user=principal.every_user,
    )


def parse_principals(tables: Mapping[str, Any]) -> Principals:
    """Read the file's tables. Raises `BadInput` with what is wrong."""
    found: dict[str, Principal] = {}
    for name, table in tables.items():
        key, principal = _principal(name, table)
        if key in found:
            raise BadInput(f"[{name}] and [{found[key].name}] have the same key; give each its own")
        found[key] = principal
    return found


def _principal(name: str, table: object) -> tuple[str, Principal]:
    if fault := name_fault(name):
        raise BadInput(f"[{name[:64]}]: {fault}")
    if not isinstance(table, dict):
        raise BadInput(f"{name} must be a table: [{name}]")
    for entry, value in table.items():
        if entry not in _KINDS:
            raise BadInput(f"[{name}]: there is no {entry[:64]!r}; known: {', '.join(_KINDS)}")
        is_fit = isinstance(value, _KINDS[entry])
        if not is_fit or (isinstance(value, list) and not all(isinstance(text, str) for text in value)):
            what = {str: "text", bool: "true or false", list: "a list of texts"}[_KINDS[entry]]
            raise BadInput(f"[{name}]: {entry} must be {what}")
    key = table.get("key", "")
    if not is_public_key(key):
        raise BadInput(
            f"[{name}]: the key must be a public one, 40 characters, as `offerd keys new` prints it"
        )
    rest = {entry: value for entry, value in table.items() if entry != "key"}
    return key, _checked(name, **rest)


def _checked(
    name: str,
    *,
    slave: bool = False,
    operator: bool = False,
    roles: Iterable[str] = (),
    users: Iterable[str] = (),
    every_role: bool = False,
    every_user: bool = False,
) -> Principal:
    roles, users = tuple(roles), tuple(users)
    for role in roles:
        if fault := role_fault(role):
            raise BadInput(f"[{name}]: {fault}")
    if bool(roles or every_role) != bool(users or every_user):
        raise BadInput(
            f'[{name}]: give both roles and users (as which its tasks run; "" is the slave\'s own), or neither'
        )
    return Principal(
        name=name,
        slave=slave,
        operator=operator,
        roles=roles,
        users=users,
        every_role=every_role,
        every_user=every_user,
    )
