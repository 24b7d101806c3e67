"""What the master asks of an allocation module.

A module keeps the cluster's total and what each framework holds (offers and tasks alike). It says in which order frameworks are
offered what became free, and whose tasks are revoked first. It sees no slaves and no offers, and sends nothing. Filters,
minimum offers, guarantees, limits, the time of a revocation and the part for long tasks are the master's, with any module.

New methods get defaults that do nothing, so a module written today runs under a later master.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy


class RevocableTask(NamedTuple):
    """A task that may be revoked. `launched_at`: seconds on the master's clock, only good for comparing."""

    framework_id: FrameworkID
    task_id: TaskID
    slave_id: SlaveID
    resources: Resources
    launched_at: float
    time_limit_s: float | None


class Allocator(ABC):
    """Base of allocation modules. Raises `BadInput` on options (`policy.options`) that it does not have."""

    @abstractmethod
    def __init__(self, policy: Policy) -> None: ...

    @abstractmethod
    def add_total(self, resources: Resources) -> None:
        """A slave has come with these resources."""

    @abstractmethod
    def remove_total(self, resources: Resources) -> None:
        """A slave with these resources has gone."""

    @abstractmethod
    def add_framework(self, framework_id: FrameworkID, role: str, name: str = "") -> None:
        """The framework may be charged from now on. It wants nothing yet."""

    @abstractmethod
    def remove_framework(self, framework_id: FrameworkID) -> None:
        """The framework, which holds and wants nothing any more, is forgotten."""

    @abstractmethod
    def set_wanting(self, framework_id: FrameworkID, is_wanting: bool) -> None:
        """Whether the framework is to be ranked. Repeating the same value changes nothing."""

    @abstractmethod
    def charge(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework holds this: it was offered, or adopted with a slave's tasks."""

    @abstractmethod
    def refund(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework no longer holds this."""

    @abstractmethod
    def ranked(self) -> Iterable[FrameworkID]:
        """The frameworks that want something, in the order in which to offer them what became free. It is read before the next
        change.
        """

    @abstractmethod
    def held(self, framework_id: FrameworkID) -> Mapping[str, int]:
        """The quantities (see `Resources.quantities`) that the framework is charged for; zeros may be missing."""

    def offer(self, framework_id: FrameworkID, resources: Resources) -> None:
        """The framework is offered this, and holds it from now on."""
        self.charge(framework_id, resources)

    def revocation_order(
        self, framework_id: FrameworkID, tasks: Iterable[RevocableTask]
    ) -> Iterable[RevocableTask]:
        """Which of `tasks` (latest launched first) to revoke on behalf of this framework, in which order. The master takes as
        many from the front as are needed. It skips tasks of frameworks that are down to their guarantee by then, and tasks that
        would free too little of a slave. Tasks that are left out are not revoked.
        """
        return tasks

    def share(self, framework_id: FrameworkID) -> float:
        """The framework's part of the cluster, 0 to 1, as shown to people."""
        return 0.0

    def fair_shares(self) -> Mapping[FrameworkID, float]:
        """The part that each framework would have if all that want or hold something had their due."""
        return {}
