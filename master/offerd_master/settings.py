"""The settings of the master's core, one frozen record: times and limits. `options` has the command line's record."""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterSettings:
    """Times, in seconds, and limits of the core. Raises `BadInput` on values that cannot be used."""

    offer_timeout_s: float = 30.0
    """How long an offer may be unanswered."""

    ping_interval_s: float = 5.0
    """How often each peer is asked for a sign of life."""

    max_missed_pings: int = 5
    """A peer that has left so many unanswered is taken as gone."""

    batch_window_s: float = 0.0005
    """The pause before a slave with tasks is offered again, so that tasks that end together are offered together."""

    repeat_pace_s: float = 1.0
    """The pause before an offer is repeated that a framework declined for no time, unless more has become free."""

    reconnect_grace_s: float = 15.0
    """How long a framework may be disconnected whatever its fail-over time-out: each connection has a new routing id, so a
    broken connection looks like an end."""

    adoption_grace_s: float = 60.0
    """How long a new master waits for the schedulers and slaves of the last one."""

    recovery_quiet_s: float = 1.0
    """How long none of them must have come before the new master makes offers."""

    recovery_window_s: float = 10.0
    """How long after its start it waits for that at most."""

    missing_task_grace_s: float = 10.0
    """How long a task that its slave does not list when it registers may be on its way, before it is reported as lost."""

    staging_doubt_s: float = 30.0
    """How long nothing may be heard of a launched task before its slave is asked to register again."""

    revoke_after_s: float = 5.0
    """How long a framework that wants offers is under its guarantee before tasks of others are revoked for it."""

    revoke_grace_s: float = 30.0
    """The time from the notice of a revocation to the kill."""

    operator_grace_s: float = 5.0
    """The grace of tasks that an operator, another framework's guarantee or a lost right ends, whatever grace they have."""

    max_failover_timeout_s: float = 7 * 86_400.0
    """How long a framework may at most be without a scheduler, or its tasks without their slave."""

    minimum_offer: Resources = field(default_factory=lambda: Resources.of(cpus="0.001", mem="1M"))
    """What must be free on a slave before it is offered, of those resources that the slave has."""

    allocator: str = "drf"
    """The allocation module, by name."""

    policy: Policy = field(default_factory=Policy)
    """The terms of roles and frameworks."""

    max_ended_tasks: int = 10_000
    """How many ended tasks are remembered."""

    max_ended_tasks_per_framework: int = 1_000
    """How many of them for one framework."""

    max_ended_frameworks: int = 100
    """How many ended frameworks are remembered."""

    max_lost_slaves: int = 10_000
    """How many lost slaves are remembered: more than a cluster has, as one outage may take all."""

    max_frameworks_per_owner: int = 2_000
    """How many frameworks an owner may have, waiting ones included; five times as many where peers have no keys, and so no
    owners."""

    max_framework_bytes_per_owner: int = 64 << 20
    """The size of their descriptions; five times as much where peers have no keys."""

    def __post_init__(self) -> None:
        for name in ("offer_timeout_s", "ping_interval_s", "repeat_pace_s"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} must be more than zero seconds")
        for name in (
            "batch_window_s",
            "reconnect_grace_s",
            "adoption_grace_s",
            "recovery_quiet_s",
            "recovery_window_s",
            "missing_task_grace_s",
            "revoke_after_s",
            "revoke_grace_s",
            "operator_grace_s",
            "max_failover_timeout_s",
        ):
            if not getattr(self, name) >= 0:
                raise BadInput(f"{name} must be zero seconds or more")
        if self.max_missed_pings < 1:
            raise BadInput("max_missed_pings must be 1 or more")
