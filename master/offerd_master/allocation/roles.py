"""The tree of roles, with the frameworks as its leaves.

The own frameworks of role `a` hang together in one node, beside the roles `a/b` and `a/c` within it: they compete with these as
one, and share what they get.
"""

from __future__ import annotations

from offerd.ids import FrameworkID
from offerd_master.allocation.policy import Policy

OWN = "."
"""Name of the node that holds a role's own frameworks; no role can have this name."""

Key = tuple[float, int, str]
"""Order of siblings: share over weight, number of the last offer, name."""


class Node:
    """A role, the node of a role's own frameworks, or a framework (which has no children).

    `order` holds the keys of those children below which a framework wants something; `key` is this node's place in its
    parent's order while it is `listed` there. `held` is a framework's account, or for other nodes the sum, which is kept only
    while the tree has several ends (see `DrfAllocator`).
    """

    __slots__ = (
        "changed", "children", "counted", "held", "key", "last_offer", "listed", "name", "order", "parent", "weight",
    )  # fmt: skip

    def __init__(self, name: str, weight: float, parent: Node | None) -> None:
        self.name = name
        self.weight = weight
        self.parent = parent
        self.children: dict[str, Node] = {}
        self.held: dict[str, int] = {}
        self.counted: dict[str, int] = {}
        self.order: list[Key] = []
        self.last_offer = 0
        self.key: Key = (0.0, 0, name)
        self.listed = False
        self.changed = False


class RoleTree:
    """The roles that have frameworks. `ends` are the nodes that hold these; `only_end` is the one end, if there is only one."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.root = Node("", 1.0, None)
        self.ends: dict[str, Node] = {}
        self.only_end: Node | None = None

    def add(self, framework_id: FrameworkID, role: str, name: str) -> Node:
        """Add a leaf, and those nodes of its role that do not exist yet."""
        end = self.ends.get(role)
        if end is None:
            node, path = self.root, ""
            for part in role.split("/"):
                path = f"{path}/{part}" if path else part
                node = _child(node, part, self.policy.weight(path))
            end = self.ends[role] = _child(node, OWN, 1.0)
            self._note_ends()
        return _child(end, framework_id, self.policy.framework_weight(name))

    def remove(self, leaf: Node) -> None:
        """Remove the leaf, and the nodes of its role that are empty without it. It is listed nowhere any more."""
        node = leaf
        while node.parent is not None and not node.children:
            del node.parent.children[node.name]
            node = node.parent
        self.ends = {role: end for role, end in self.ends.items() if end.children}
        self._note_ends()

    def _note_ends(self) -> None:
        self.only_end = next(iter(self.ends.values())) if len(self.ends) == 1 else None

    def fair_shares(self) -> dict[FrameworkID, float]:
        """Each framework's part of the whole by weight, among those that want or hold something."""
        parts: dict[FrameworkID, float] = {}
        _divide(self.root, 1.0, _active(self.root, set()), parts)
        return parts


def _active(node: Node, found: set[Node]) -> set[Node]:
    """The nodes below which something is wanted or held."""
    for child in node.children.values():
        _active(child, found)
    # The sums of roles may be out of date, see `Node`.
    holds = any(c in found for c in node.children.values()) if node.children else any(node.held.values())
    if node.listed or holds:
        found.add(node)
    return found


def _divide(node: Node, part: float, active: set[Node], parts: dict[FrameworkID, float]) -> None:
    """Split a node's part among its children. An inactive child gets what it would get if it were active."""
    if not node.children:
        parts[FrameworkID(node.name)] = part
        return
    together = sum(child.weight for child in node.children.values() if child in active)
    for child in node.children.values():
        whole = together if child in active else together + child.weight
        _divide(child, part * child.weight / whole, active, parts)


def _child(parent: Node, name: str, weight: float) -> Node:
    child = parent.children.get(name)
    if child is None:
        child = parent.children[name] = Node(name, weight, parent)
    return child
