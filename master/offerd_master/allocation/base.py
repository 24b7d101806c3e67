"""What the master asks of an allocation module, and how one is found.

A module keeps what each framework holds (offers and tasks alike) and the cluster's total, and says in which order
frameworks should be offered what became free. It sees no slave, offer or task and sends nothing.

Modules grow by methods with do-nothing defaults, so that one written today runs under a later master.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping
from importlib.metadata import entry_points

from offerd.errors import BadInput
from offerd.ids import FrameworkID
from offerd.resources import NOTHING, Resources

GROUP = "offerd.allocators"


class Allocator(ABC):
    """Base of allocation modules. Made with the weight of each role that has one; others weigh 1."""

    @abstractmethod
    def __init__(self, role_weights: Mapping[str, float]) -> None: ...

    @abstractmethod
    def add_total(self, resources: Resources) -> None:
        """A slave has come."""

    @abstractmethod
    def remove_total(self, resources: Resources) -> None:
        """A slave has gone."""

    @abstractmethod
    def add_framework(self, framework_id: FrameworkID, role: str) -> None:
        """From now on the framework may be charged and ranked."""

    @abstractmethod
    def remove_framework(self, framework_id: FrameworkID) -> None:
        """It holds nothing any more and is forgotten."""

    @abstractmethod
    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework holds this: offered to it, or adopted with a slave's tasks."""

    @abstractmethod
    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework no longer holds this."""

    @abstractmethod
    def ranked(self, candidates: Container[FrameworkID]) -> Iterable[FrameworkID]:
        """The candidates in the order in which what became free should be offered. Read before the next change."""

    @abstractmethod
    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        """The quantities (see `Resources.quantities`) the framework is charged for; zeros may be missing."""

    def offered(self, framework_id: FrameworkID) -> None:  # noqa: B027
        """The framework has just been made an offer."""

    def share(self, framework_id: FrameworkID) -> float:
        """The framework's part of the cluster, 0 to 1, to show to people."""
        return 0.0

    def guaranteed_share(self, framework_id: FrameworkID) -> Resources:
        """What the framework may hold without ever losing a task."""
        return NOTHING


def load_allocator(name: str, role_weights: Mapping[str, float]) -> Allocator:
    """The installed module of this name. Raises `BadInput` naming those there are."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise BadInput(
            f"there is no allocation module {name!r}; installed: {', '.join(sorted(found)) or 'none'}"
        )
    allocator = found[name].load()(role_weights)
    if not isinstance(allocator, Allocator):
        raise BadInput(f"allocation module {name!r} is no offerd_master.allocation.base.Allocator")
    return allocator
