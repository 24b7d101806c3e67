"""Weighted Dominant Resource Fairness (Ghodsi et al., NSDI 2011, algorithm 1 and section 4.3), over a tree of roles.

A framework's dominant share is its largest fraction of any resource. What becomes free goes down the tree of roles, at each
step to the child with the lowest share over weight, and so to one framework. Ties go to the one offered least recently, then to
the lower name: equals take turns, and every run is repeatable. If a framework's demand does not fit, the master asks the next
one; the paper's algorithm would stop there.

Shares are computed when they are asked for, and only for frameworks that were charged or refunded since: a thousand tasks that
end between two offers cost one computation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import cast

from offerd.ids import FrameworkID
from offerd.resources import Resources
from offerd_master.allocation.base import Allocator
from offerd_master.allocation.policy import Policy
from offerd_master.allocation.roles import Node, RoleTree

_NAME = itemgetter(2)
"""The name in a sort key."""


class DrfAllocator(Allocator):
    """The allocation module `drf`. Takes weights of roles and frameworks; has no options."""

    def __init__(self, policy: Policy) -> None:
        policy.refuse_options(())
        self._tree = RoleTree(policy)
        self._total: dict[str, int] = {}
        self._leaves: dict[FrameworkID, Node] = {}
        self._changed: list[Node] = []
        self._all_changed = False
        self._offers = 0

    # -- Accounts ---------------------------------------------------------------------------------------------------

    def add_total(self, resources: Resources) -> None:
        _add(self._total, resources.quantities(), 1)
        self._all_changed = True

    def remove_total(self, resources: Resources) -> None:
        _add(self._total, resources.quantities(), -1)
        self._all_changed = True

    def add_framework(self, framework_id: FrameworkID, role: str, name: str = "") -> None:
        ends = len(self._tree.ends)
        self._leaves[framework_id] = self._tree.add(framework_id, role, name)
        if len(self._tree.ends) != ends:
            self._all_changed = True  # sums of roles are kept only while there are several: recount all

    def remove_framework(self, framework_id: FrameworkID) -> None:
        self.set_wanting(framework_id, False)
        self._settle()
        leaf = self._leaves.pop(framework_id)
        self._tree.remove(leaf)

    def set_wanting(self, framework_id: FrameworkID, is_wanting: bool) -> None:
        leaf = self._leaves[framework_id]
        if leaf.listed == is_wanting:
            return
        if is_wanting:
            self._list(leaf)
        else:
            _unlist(leaf)

    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        leaf = self._leaves[framework_id]
        held = leaf.held
        for name, amount in resources.quantities().items():
            held[name] = held.get(name, 0) + amount
        if not leaf.changed:
            leaf.changed = True
            self._changed.append(leaf)

    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        leaf = self._leaves[framework_id]
        held = leaf.held
        for name, amount in resources.quantities().items():
            held[name] -= amount
        if not leaf.changed:
            leaf.changed = True
            self._changed.append(leaf)

    def offer(self, framework_id: FrameworkID, resources: Resources) -> None:
        leaf = self._leaves[framework_id]
        self._offers = leaf.last_offer = self._offers + 1
        held = leaf.held
        for name, amount in resources.quantities().items():
            held[name] = held.get(name, 0) + amount
        if not leaf.changed:
            leaf.changed = True
            self._changed.append(leaf)

    # -- Answers ----------------------------------------------------------------------------------------------------

    def ranked(self) -> Iterable[FrameworkID]:
        if self._changed or self._all_changed:
            self._settle()
        only = self._tree.only_end
        if only is not None:
            return cast("Iterable[FrameworkID]", map(_NAME, only.order))
        return _walk(self._tree.root)

    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        return self._leaves[framework_id].held

    def share(self, framework_id: FrameworkID) -> float:
        return self._dominant(self._leaves[framework_id].held)

    def fair_shares(self) -> Mapping[FrameworkID, float]:
        return self._tree.fair_shares()

    @property
    def total(self) -> Mapping[str, int]:
        """The quantities of all slaves together."""
        return self._total

    # -- Order --------------------------------------------------------------------------------------------------------

    def _dominant(self, held: Mapping[str, int]) -> float:
        """The largest fraction of any resource; 0 for a resource that no slave has any more."""
        total = self._total
        share = 0.0
        for name, amount in held.items():
            whole = total.get(name, 0)
            if whole > 0 and (part := amount / whole) > share:
                share = part
        return share

    def _settle(self) -> None:
        """Put everything that has changed since the last question into order."""
        if self._all_changed:
            self._all_changed = False
            for leaf in self._changed:
                leaf.changed = False
            self._changed = []
            self._recount(self._tree.root)
        elif self._changed:
            has_roles = self._tree.only_end is None
            for leaf in self._changed:
                leaf.changed = False
                if has_roles:
                    _pass_on(leaf)
                    node: Node | None = leaf
                    while node is not None and node.parent is not None:
                        self._place(node)
                        node = node.parent
                else:
                    self._place(leaf)
            self._changed = []

    def _place(self, node: Node) -> None:
        """Move the node to where its share belongs in its parent's order."""
        share = self._dominant(node.held)
        weight = node.weight
        key = (share if weight == 1.0 else share / weight, node.last_offer, node.name)
        before = node.key
        if key != before:
            node.key = key
            if node.listed and node.parent is not None:
                order = node.parent.order
                # Usually it was first, since it was just offered something, and often it is last now.
                del order[0 if order[0] is before else bisect_left(order, before)]
                if not order or order[-1] < key:
                    order.append(key)
                else:
                    insort(order, key)

    def _list(self, node: Node) -> None:
        """A framework below wants something: list the node in its parent's order, and the parent in its own."""
        while node.parent is not None and not node.listed:
            insort(node.parent.order, node.key)
            node.listed = True
            node = node.parent

    def _recount(self, node: Node) -> None:
        """Compute all sums and places below a node again."""
        if node.children:
            held: dict[str, int] = {}
            last_offer = 0
            for child in node.children.values():
                self._recount(child)
                _add(held, child.held, 1)
                last_offer = max(last_offer, child.last_offer)
            node.held, node.last_offer = held, last_offer
            node.order = sorted(child.key for child in node.children.values() if child.listed)
        else:
            node.counted = dict(node.held)
        share = self._dominant(node.held) / node.weight
        node.key = (share, node.last_offer, node.name)


def _pass_on(leaf: Node) -> None:
    """Add what changed in a framework's account to the sums of the roles around it."""
    counted = leaf.counted
    difference = {name: d for name, amount in leaf.held.items() if (d := amount - counted.get(name, 0))}
    counted.update(leaf.held)
    node = leaf.parent
    while node is not None:
        node.last_offer = max(node.last_offer, leaf.last_offer)
        if difference:
            _add(node.held, difference, 1)
        node = node.parent


def _unlist(node: Node) -> None:
    """No framework below wants anything any more."""
    while node.parent is not None and not node.order:
        order = node.parent.order
        del order[bisect_left(order, node.key)]
        node.listed = False
        node = node.parent


def _walk(node: Node) -> Iterator[FrameworkID]:
    for key in node.order:
        child = node.children[key[2]]
        if child.order:
            yield from _walk(child)
        else:
            yield cast("FrameworkID", child.name)


def _add(account: dict[str, int], amounts: Mapping[str, int], sign: int) -> None:
    """Add or subtract; amounts that become zero leave the account."""
    for name, amount in amounts.items():
        if left := account.get(name, 0) + sign * amount:
            account[name] = left
        else:
            account.pop(name, None)
