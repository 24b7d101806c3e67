"""The slave's settings: what a person chooses (`SlaveOptions`) and what its core goes by (`SlaveSettings`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from offerd.resources import Resources
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions
from offerd_slave.core.retention import USUAL, Bounds


@dataclass(frozen=True, slots=True)
class SlaveSettings:
    """Times and shares of the core. All in seconds."""

    long_fraction: float = (
        0.5  # of each resource, for tasks without a time limit or with one above short_limit_s
    )
    short_limit_s: float = 60.0
    kill_grace_s: float = 5.0  # TERM to KILL, where the task says nothing else
    max_kill_grace_s: float = 30.0  # no grace is longer, whoever asks for it
    default_user: str = ""  # who runs what names no user; "" = the slave's own
    kill_margin_s: float = (
        0.5  # how long after the grace an executor may take before the slave kills by itself
    )
    executor_registration_timeout_s: float = 60.0
    executor_reregistration_timeout_s: float = 15.0  # after a restart of the slave
    register_retry_s: float = 1.0
    master_silence_s: float = 15.0  # no word from the master for so long: say hello again
    update_retry_s: float = 10.0  # doubles up to ...
    update_retry_max_s: float = 600.0
    sync_pause_per_task_s: float = 20e-6  # between syncs of the journal, for each task that runs ...
    sync_pause_max_s: float = 0.002  # ... up to this
    confirm_pause_s: float = 0.02  # how long an executor may wait to hear that its statuses are stored
    unkillable_s: float = 60.0  # killed, and not gone after so long: people and the framework are told
    unkillable_look_s: float = 5.0  # how often such a task is looked at again
    executor_report_s: float = 5.0  # how long an executor may take to report a task that is dead and gone
    usage_interval_s: float = 5.0  # also how often the disk is looked at
    disk_floor_bytes: int | None = None  # of free room; None: see `core.disk`
    drain_ack_s: float = 5.0  # how long a drained slave waits for its last acknowledgements
    default_task_mem_bytes: int = (
        256 << 20
    )  # of a task that declares none, where memory is limited; 0: no limit
    max_containers: int = 1 << 20  # as many as there are descriptors for
    limits_containers: bool = (
        False  # the isolation module wants to know what a container's tasks hold together
    )
    memory_note: str = ""  # where memory is not limited: what tasks that ask for some are told when they run
    limits_tasks: bool = False  # ... and has limits of its own for each task


@dataclass(frozen=True, slots=True)
class SlaveOptions:
    """The command line of `offerd slave`. Raises nothing itself; the daemon checks it and raises `BadInput`."""

    master: str = ""  # as for `offerd.credentials.clusters.resolve`
    ip: str = "127.0.0.1"
    http_port: int = 5051
    work_dir: Path = Path("/var/lib/offerd/slave")
    data_dir: Path | None = None  # files placed here over HTTP; None: in the work directory
    hostname: str = ""
    resources: Resources | None = None  # by name, over what the host has
    attributes: dict[str, str] = field(default_factory=dict)
    minimum_offer: Resources | None = None  # the master does not offer less; None: as the master says
    isolation: str = "auto"
    limits: IsolationOptions = DEFAULT_OPTIONS
    default_user: str = (
        ""  # who runs what names no user; "" = nobody for a slave that runs as root, else its own user
    )
    insecure: bool = False  # may obey a master without keys, and serve files elsewhere than on loopback
    ephemeral: bool = False  # SIGTERM ends all tasks and removes the work directory
    log_bytes: int = (
        10 << 20
    )  # of an executor's stdout and its rotated part together; its stderr the same; each task's, too
    leftovers: Bounds = USUAL  # of what has ended
    disk_per_task_bytes: int | None = None  # of one that declares none; None: see `core.shares`, 0: no limit
    settings: SlaveSettings = SlaveSettings()
