"""The slave's settings: the options that a person chooses (`SlaveOptions`), and those of its core (`SlaveSettings`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from offerd.resources import Resources
from offerd.tasks.task_output import DEFAULT_LOG_BYTES
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions
from offerd_slave.retention import USUAL, Bounds


@dataclass(frozen=True, slots=True)
class SlaveSettings:
    """Times, in seconds, and limits of the core."""

    long_fraction: float = (
        0.5  # part of each resource for tasks without a time limit, or with one above short_limit_s
    )
    short_limit_s: float = 60.0
    kill_grace_s: float = 5.0  # from TERM to KILL, unless the task has its own grace
    max_kill_grace_s: float = 30.0  # the longest grace that is granted
    default_user: str = ""  # user for frameworks that name none; "" = the slave's own
    kill_margin_s: float = (
        0.5  # how long after the grace an executor may take before the slave kills by itself
    )
    executor_registration_timeout_s: float = 60.0
    executor_reregistration_timeout_s: float = 15.0  # after a restart of the slave
    register_retry_s: float = 1.0
    master_silence_s: float = 15.0  # register again after so long without a message from the master
    update_retry_s: float = 10.0  # doubles up to ...
    update_retry_max_s: float = 600.0
    sync_pause_per_task_s: float = 20e-6  # pause between syncs of the journal, for each running task ...
    sync_pause_max_s: float = 0.002  # ... up to this
    confirm_pause_s: float = (
        0.02  # how long an executor may wait for the confirmation that its statuses are stored
    )
    unkillable_s: float = 60.0  # a killed task that still exists after so long is reported as unkillable
    unkillable_look_s: float = 5.0  # how often such a task is checked again
    executor_report_s: float = 5.0  # how long an executor may take to report the end of a task that is gone
    usage_interval_s: float = 5.0  # also how often the disk is checked
    disk_floor_bytes: int | None = None  # free room below which the disk is full; None: see `core.disk`
    drain_ack_s: float = 5.0  # how long a drained slave waits for its last acknowledgements
    default_task_mem_bytes: int = (
        256 << 20
    )  # memory limit of a task that declares none, if memory is limited or watched; 0: no limit
    max_containers: int = 1 << 20  # lowered to the number that there are descriptors for
    limits_containers: bool = False  # the isolation module has limits for each container
    memory_note: str = ""  # if memory is not limited: a message for tasks that declare memory
    limits_tasks: bool = False  # the isolation module has limits for each task


@dataclass(frozen=True, slots=True)
class SlaveOptions:
    """The command line of `offerd slave`. It is not checked here; the daemon checks it, and raises `BadInput`."""

    master: str = ""  # as in `offerd.masters.clusters.resolve`
    ip: str = "127.0.0.1"
    http_port: int = 5051
    work_dir: Path = Path("/var/lib/offerd/slave")
    data_dir: Path | None = None  # files placed here over HTTP; None: in the work directory
    hostname: str = ""
    resources: Resources | None = None  # replace what the host has, by name
    attributes: dict[str, str] = field(default_factory=dict)
    minimum_offer: Resources | None = None  # the master offers no less; None: the master's own minimum
    isolation: str = "auto"
    limits: IsolationOptions = DEFAULT_OPTIONS
    default_user: str = (
        ""  # user for frameworks that name none; "" = nobody if the slave runs as root, else its own user
    )
    insecure: bool = False  # may obey a master without keys
    ephemeral: bool = False  # SIGTERM ends all tasks and removes the work directory
    log_bytes: int = DEFAULT_LOG_BYTES  # of stdout and its rotated part together; also of stderr
    leftovers: Bounds = USUAL  # how long files of ended tasks and executors are kept
    disk_per_task_bytes: int | None = (
        None  # share of a task that declares none; None: see `core.shares`, 0: no limit
    )
    settings: SlaveSettings = SlaveSettings()
