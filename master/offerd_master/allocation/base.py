"""What the master asks of an allocation module.

A module keeps what each framework holds (offers and tasks alike) and the cluster's total, and says in which order
frameworks should be offered what became free, and whose tasks go first where some must. It sees no slave and no offer, and
sends nothing. Filters, minimum offers, guarantees, limits, when something is revoked, and the part for long tasks are the
master's, whatever the module.

Modules grow by methods with do-nothing defaults, so that one written today runs under a later master.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy


class RevocableTask(NamedTuple):
    """A task that may be revoked. `launched_at` is in seconds on the master's clock, and says which one is later."""

    framework_id: FrameworkID
    task_id: TaskID
    slave_id: SlaveID
    resources: Resources
    launched_at: float
    time_limit_s: float | None


class Allocator(ABC):
    """Base of allocation modules. Raises `BadInput` on options (`policy.options`) that are none of its own."""

    @abstractmethod
    def __init__(self, policy: Policy) -> None: ...

    @abstractmethod
    def add_total(self, resources: Resources) -> None:
        """A slave has come."""

    @abstractmethod
    def remove_total(self, resources: Resources) -> None:
        """A slave has gone."""

    @abstractmethod
    def add_framework(self, framework_id: FrameworkID, role: str, name: str = "") -> None:
        """From now on the framework may be charged. It wants nothing yet."""

    @abstractmethod
    def remove_framework(self, framework_id: FrameworkID) -> None:
        """It holds nothing any more, wants nothing, and is forgotten."""

    @abstractmethod
    def set_wanting(self, framework_id: FrameworkID, is_wanting: bool) -> None:
        """Whether the framework is to be ranked. Said again, it changes nothing."""

    @abstractmethod
    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework holds this: offered to it, or adopted with a slave's tasks."""

    @abstractmethod
    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework no longer holds this."""

    @abstractmethod
    def ranked(self) -> Iterable[FrameworkID]:
        """Those that want something, in the order in which what became free should be offered. Read before the next
        change.
        """

    @abstractmethod
    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        """The quantities (see `Resources.quantities`) the framework is charged for; zeros may be missing."""

    def offer(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework is made an offer of this, and holds it from now on."""
        self.charge(framework_id, resources)

    def revocation_order(
        self, framework_id: FrameworkID, tasks: Iterable[RevocableTask]
    ) -> Iterable[RevocableTask]:
        """Which of `tasks`, the latest launched first, are to be revoked for the good of this framework, in which order. The
        master takes from the front as many as are needed, and passes over those of frameworks that are down to their
        guarantee by then, and what would free too little of a slave; what is left out is not revoked.
        """
        return tasks

    def share(self, framework_id: FrameworkID) -> float:
        """The framework's part of the cluster, 0 to 1, to show to people."""
        return 0.0

    def fair_shares(self) -> Mapping[FrameworkID, float]:
        """The part that each framework would have if all that want or hold something had as much as they should."""
        return {}
