"""Launch requests to the zygote as the slave sees them, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from offerd.ids import ContainerID
from offerd.tasks.task_output import DEFAULT_LOG_BYTES
from offerd_isolation.base import Enter
from offerd_linux.process_ids import ProcessID
from offerd_slave.users import Credentials


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """An executor to start. A `module` has a `main()` and is run in a fork, with `argv` as its arguments; without a module,
    `argv` is exec'ed. `environment` is all that it gets. `credentials`: its user; None for the slave's own. `log_bytes`
    limits stdout and its rotated part together, and stderr in the same way.
    """

    container_id: ContainerID
    container_dir: Path
    sandbox: Path
    module: str = ""
    argv: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    credentials: Credentials | None = None
    cgroup: Path | None = None
    enter: Enter | None = None
    log_bytes: int = DEFAULT_LOG_BYTES


@dataclass(frozen=True, slots=True)
class Launched:
    """The shim runs and starts the executor next; its exit record will say how that ends."""

    container_id: ContainerID
    shim: ProcessID


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """The launch has failed: no process of the container runs."""

    container_id: ContainerID
    message: str
