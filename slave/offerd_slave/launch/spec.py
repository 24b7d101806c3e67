"""What the slave asks of its zygote, and what it hears."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from offerd.ids import ContainerID
from offerd_isolation.base import Enter
from offerd_linux.process_ids import ProcessID

DEFAULT_LOG_BYTES = 10 << 20


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One executor to start. `module` has a `main()` and is run in a fork (`argv`: its arguments); without a module, `argv`
    is exec'ed. `environment` is all it gets. `log_bytes` bounds stdout and its rotated part together, and stderr the same.
    """

    container_id: ContainerID
    container_dir: Path
    sandbox: Path
    module: str = ""
    argv: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    cgroup: Path | None = None
    enter: Enter | None = None
    log_bytes: int = DEFAULT_LOG_BYTES


@dataclass(frozen=True, slots=True)
class Launched:
    """The shim lives and is about to start the executor; how that ends stands in its exit record."""

    container_id: ContainerID
    shim: ProcessID


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """Nothing of the container runs, or will."""

    container_id: ContainerID
    message: str
