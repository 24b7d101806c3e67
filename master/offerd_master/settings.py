"""What can be set on a master: one frozen record, made by the command line or a test."""

from __future__ import annotations

from dataclasses import dataclass, field

from offerd.errors import BadInput
from offerd.resources import Resources
from offerd_master.allocation.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are seconds. Raises `BadInput` on values that cannot be used.

    `minimum_offer`: what must be free on a slave before it is offered, of those resources that the slave has. `batch_window_s`:
    pause before a slave with tasks is offered again, so that tasks that end together are offered together. `repeat_pace_s`:
    pause before an offer is repeated that a framework declined for no time, unless more has become free. `reconnect_grace_s`:
    how long a framework may be disconnected whatever its fail-over time-out: each connection has a new routing id, so a broken
    connection looks like an end. `adoption_grace_s`: how long a new master waits for the schedulers and slaves of the last one.
    `recovery_quiet_s`: how long none of them must have come before the new master makes offers; `recovery_window_s`: how long
    after its start it waits at most. `staging_doubt_s`: how long nothing may be heard of a launched task before its slave is
    asked to register again. `revoke_after_s`: how long a framework that wants offers is under its guarantee before tasks of
    others are revoked for it; `revoke_grace_s`: time from the notice to the kill. `operator_grace_s`: grace of tasks that an
    operator, another framework's guarantee or a lost right ends, whatever grace they have themselves. `max_failover_timeout_s`:
    how long a framework may at most be without a scheduler, or its tasks without their slave. `max_lost_slaves`: more than a
    cluster has, as one outage may take all. `max_frameworks_per_owner`, `max_framework_bytes_per_owner`: how many frameworks an
    owner may have, waiting ones included, and the size of their descriptions; five times as much where peers have no keys, and
    so no owners.
    """

    offer_timeout_s: float = 30.0
    ping_interval_s: float = 5.0
    max_missed_pings: int = 5
    batch_window_s: float = 0.0005
    repeat_pace_s: float = 1.0
    reconnect_grace_s: float = 15.0
    adoption_grace_s: float = 60.0
    recovery_quiet_s: float = 1.0
    recovery_window_s: float = 10.0
    missing_task_grace_s: float = 10.0
    staging_doubt_s: float = 30.0
    revoke_after_s: float = 5.0
    revoke_grace_s: float = 30.0
    operator_grace_s: float = 5.0
    max_failover_timeout_s: float = 7 * 86_400.0
    minimum_offer: Resources = field(default_factory=lambda: Resources.of(cpus="0.001", mem="1M"))
    allocator: str = "drf"
    policy: Policy = field(default_factory=Policy)
    max_ended_tasks: int = 10_000
    max_ended_tasks_per_framework: int = 1_000
    max_ended_frameworks: int = 100
    max_lost_slaves: int = 10_000
    max_frameworks_per_owner: int = 2_000
    max_framework_bytes_per_owner: int = 64 << 20

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
