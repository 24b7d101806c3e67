"""The settings of the slave's core, one frozen record: times and limits. `options` has the command line's record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlaveSettings:
    """Times, in seconds, and limits of the core."""

    long_fraction: float = 0.5
    """The part of each resource for tasks without a time limit, or with one above `short_limit_s`."""

    short_limit_s: float = 60.0
    """The longest time limit of a short task."""

    kill_grace_s: float = 5.0
    """From TERM to KILL, unless the task has its own grace."""

    max_kill_grace_s: float = 30.0
    """The longest grace that is granted."""

    default_user: str = ""
    """The user for frameworks that name none. Empty: the slave's own."""

    kill_margin_s: float = 0.5
    """How long after the grace an executor may take before the slave kills by itself."""

    executor_registration_timeout_s: float = 60.0
    """How long an executor may take to register after its launch."""

    executor_reregistration_timeout_s: float = 15.0
    """The same after a restart of the slave."""

    register_retry_s: float = 1.0
    """The pause before the slave registers again with a master that does not answer."""

    master_silence_s: float = 15.0
    """The slave registers again after so long without a message from the master."""

    update_retry_s: float = 10.0
    """The first pause before a status is sent again that is not acknowledged; it doubles each time."""

    update_retry_max_s: float = 600.0
    """The longest such pause."""

    sync_pause_per_task_s: float = 20e-6
    """The pause between syncs of the journal, for each running task."""

    sync_pause_max_s: float = 0.002
    """The longest such pause, however many tasks run."""

    confirm_pause_s: float = 0.02
    """How long an executor may wait for the confirmation that its statuses are stored."""

    unkillable_s: float = 60.0
    """A killed task that still exists after so long is reported as unkillable."""

    unkillable_look_s: float = 5.0
    """How often such a task is checked again."""

    executor_report_s: float = 5.0
    """How long an executor may take to report the end of a task that is gone."""

    usage_interval_s: float = 5.0
    """How often usage is reported and the disk is checked."""

    disk_floor_bytes: int | None = None
    """Free room below which the disk is full. None: see `core.disk`."""

    drain_ack_s: float = 5.0
    """How long a drained slave waits for its last acknowledgements."""

    default_task_mem_bytes: int = 256 << 20
    """The memory limit of a task that declares none, if memory is limited or watched. 0: no limit."""

    max_containers: int = 1 << 20
    """The most containers at a time; lowered to the number that there are descriptors for."""

    limits_containers: bool = False
    """Whether the isolation module has limits for each container."""

    memory_note: str = ""
    """If memory is not limited: a message for tasks that declare memory."""

    limits_tasks: bool = False
    """Whether the isolation module has limits for each task."""
