"""How to run a slave: the record that the command line makes. `settings` has the part of it that the core gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from offerd.resources import Resources
from offerd.tasks.task_output import DEFAULT_LOG_BYTES
from offerd_isolation.base import DEFAULT_OPTIONS, IsolationOptions
from offerd_slave.retention import USUAL, Bounds
from offerd_slave.settings import SlaveSettings


@dataclass(frozen=True, slots=True)
class SlaveOptions:
    """The command line of `offerd slave`. It is not checked here; the daemon checks it, and raises `BadInput`."""

    master: str = ""
    """As in `offerd.masters.clusters.resolve`."""

    ip: str = "127.0.0.1"
    """This host's address, where its files are served."""

    http_port: int = 5051
    """The port of the file server; 0 takes a free one."""

    work_dir: Path = Path("/var/lib/offerd/slave")
    """Where the slave keeps its records and sandboxes."""

    data_dir: Path | None = None
    """Files placed here over HTTP. None: in the work directory."""

    hostname: str = ""
    """What the slave is called in listings. Empty: the host's own name."""

    resources: Resources | None = None
    """They replace what the host has, by name."""

    attributes: dict[str, str] = field(default_factory=dict)
    """Frameworks can choose slaves by these."""

    minimum_offer: Resources | None = None
    """The master offers no less. None: the master's own minimum."""

    isolation: str = "auto"
    """The isolation module. `auto`: the best that works on this host."""

    limits: IsolationOptions = DEFAULT_OPTIONS
    """The options of the isolation module: limits and images."""

    default_user: str = ""
    """The user for frameworks that name none. Empty: nobody if the slave runs as root, else its own user."""

    insecure: bool = False
    """Whether it may obey a master without keys."""

    ephemeral: bool = False
    """Whether SIGTERM ends all tasks and removes the work directory."""

    log_bytes: int = DEFAULT_LOG_BYTES
    """The limit of an executor's stdout and its rotated part together; the same for its stderr, and for each task's."""

    leftovers: Bounds = USUAL
    """How long files of ended tasks and executors are kept."""

    disk_per_task_bytes: int | None = None
    """The share of a task that declares none. None: see `core.shares`; 0: no limit."""

    settings: SlaveSettings = field(default_factory=SlaveSettings)
    """The core's part."""
