"""What an operator has decided about shares: weights, priorities, guarantees and limits.

Roles are paths: `science/physics` is a part of `science`. A framework is identified by the name with which it registers;
frameworks with the same name share its terms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from offerd.errors import BadInput, BadResources
from offerd.resources import NOTHING, Resources

MAX_ROLE_LENGTH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a role or a framework. `priority` None: that of the role above, or 0 at the top.

    `guarantee` and `limit` hold scalars only. A resource that is not named has no guarantee, or no limit.
    """

    weight: float = 1.0
    priority: int | None = None
    guarantee: Resources = NOTHING
    limit: Resources | None = None

    def fault(self) -> str:
        """What is wrong with them, as the end of a line; empty if nothing is."""
        if not 0 < self.weight < math.inf:
            return "the weight must be a number above zero"
        for name, amount in (("guarantee", self.guarantee), ("limit", self.limit or NOTHING)):
            if amount.ranges or amount.sets:
                return f"the {name} must name amounts, as in cpus=4,mem=8G, not ranges or sets"
        if self.limit is not None:
            for scalar, quantity in self.guarantee.scalars.items():
                if quantity > self.limit.scalars.get(scalar, quantity):
                    return f"more {scalar} is guaranteed than the limit allows; raise the limit"
        return ""


NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class Policy:
    """The terms of roles and frameworks, and the `options` of the allocation module."""

    roles: Mapping[str, Terms] = field(default_factory=dict)
    frameworks: Mapping[str, Terms] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, mine in (("role", self.roles), ("framework", self.frameworks)):
            for name, terms in mine.items():
                fault = (role_fault(name) if kind == "role" else "") or terms.fault()
                if fault:
                    raise BadInput(f"{kind} {name!r}: {fault}")
        for role, terms in self.roles.items():
            self._check_parts(role, terms)
            self._check_limits_around(role, terms)

    def guarantor(self, role: str) -> str | None:
        """The nearest role around this one that has a guarantee: the guarantee of this one is part of it."""
        return parent_of(role, [name for name, terms in self.roles.items() if terms.guarantee])

    def _check_parts(self, role: str, terms: Terms) -> None:
        """A role's guarantee contains those of the roles within it, so it must be large enough for them all."""
        parts = [self.roles[name].guarantee for name in self.roles if self.guarantor(name) == role]
        for name, amount in terms.guarantee.scalars.items():
            if sum(part.scalars.get(name, 0) for part in parts) > amount:
                raise BadInput(
                    f"role {role!r}: its guarantee of {name} is less than those of the roles within it together"
                )

    def _check_limits_around(self, role: str, terms: Terms) -> None:
        """A guarantee must not exceed a limit around it."""
        for around in paths(role):
            limit = self.roles.get(around, NO_TERMS).limit
            for name, amount in terms.guarantee.scalars.items():
                if limit is not None and amount > limit.scalars.get(name, amount):
                    raise BadInput(
                        f"role {role!r}: its guarantee of {name} is more than the limit of {around!r}"
                    )

    @classmethod
    def of_weights(cls, weights: Mapping[str, float]) -> Policy:
        """Roles that differ in their weights only."""
        return cls({role: Terms(weight=weight) for role, weight in weights.items()})

    def weight(self, role: str) -> float:
        return self.roles.get(role, NO_TERMS).weight

    def framework_weight(self, name: str) -> float:
        return self.frameworks.get(name, NO_TERMS).weight

    def priority(self, role: str, name: str) -> int:
        """A framework's own priority, or that of the nearest role around it that has one."""
        terms = [self.frameworks.get(name), *(self.roles.get(path) for path in reversed(list(paths(role))))]
        return next((t.priority for t in terms if t is not None and t.priority is not None), 0)

    def refuse_options(self, known: Iterable[str]) -> None:
        """Raise `BadInput` if an option was given that is not among these."""
        if unknown := sorted(self.options.keys() - set(known)):
            choice = ", ".join(sorted(known)) or "none"
            raise BadInput(
                f"[allocation.options]: there is no option {unknown[0]!r}; this module has: {choice}"
            )


def paths(role: str) -> Iterable[str]:
    """The role and all roles around it, outermost first: `a`, `a/b`, `a/b/c`."""
    parts = role.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts) + 1))


def parent_of(role: str, known: Iterable[str]) -> str | None:
    """The nearest role around this one that is among `known`."""
    around = [path for path in paths(role) if path != role and path in known]
    return around[-1] if around else None


def role_fault(role: str) -> str:
    """Why this cannot be the name of a role; empty if it can."""
    if not role:
        return 'the role is empty; leave it out or give it a name ("*" is the common one)'
    if len(role) > MAX_ROLE_LENGTH or not role.isprintable():
        return f"a role is at most {MAX_ROLE_LENGTH} printable characters"
    if any(part in ("", ".", "..") for part in role.split("/")):
        return "a role is a path of names, as in science/physics: none of them empty, `.` or `..`"
    return ""


# -- Reading a table of a TOML file -------------------------------------------------------------------------------------


def parse_policy(table: Mapping[str, Any]) -> Policy:
    """Read the `[allocation]` table of a master's file, without its `module`. Raises `BadInput` with what is wrong."""
    _only("[allocation]", table, ("module", "options", "roles", "frameworks"))
    return Policy(
        _terms_by_name(table, "roles"),
        _terms_by_name(table, "frameworks"),
        dict(_table("[allocation.options]", table.get("options", {}))),
    )


def _terms_by_name(table: Mapping[str, Any], kind: str) -> dict[str, Terms]:
    entries = _table(f"[allocation.{kind}]", table.get(kind, {}))
    return {name: _terms(f'[allocation.{kind}."{name}"]', entry) for name, entry in entries.items()}


def _terms(where: str, entry: object) -> Terms:
    entry = _table(where, entry)
    _only(where, entry, ("weight", "priority", "guarantee", "limit"))
    weight, priority = entry.get("weight", 1.0), entry.get("priority")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise BadInput(f"{where}: the weight must be a number above zero")
    if isinstance(priority, bool) or not isinstance(priority, int | None):
        raise BadInput(f"{where}: the priority must be a whole number; the highest goes first")
    limit = _amount(where, entry, "limit") if "limit" in entry else None
    return Terms(
        weight=float(weight), priority=priority, guarantee=_amount(where, entry, "guarantee"), limit=limit
    )


def _amount(where: str, entry: Mapping[str, Any], name: str) -> Resources:
    text = entry.get(name, "")
    if not isinstance(text, str):
        raise BadInput(f'{where}: write the {name} as text, as in {name} = "cpus=4,mem=8G"')
    try:
        return Resources.parse(text)
    except BadResources as error:
        raise BadInput(f"{where}: {name}: {error}") from None


def _table(where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where} must be a table")
    return value


def _only(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(table.keys() - set(known)):
        raise BadInput(f"{where}: there is no {unknown[0]!r}; known: {', '.join(known)}")
