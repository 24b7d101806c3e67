"""A container's configuration for the engine's API: POST /containers/create and /containers/ID/update."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from offerd_isolation.base import ContainerSpec
from offerd_isolation.cgroups.contents import DEFAULT_PERIOD_US
from offerd_isolation.cgroups.limits import Limits
from offerd_isolation.docker import pause
from offerd_isolation.marks import CONTAINER_MARK

LABEL = "org.offerd."
PAUSE_MARK = "OFFERD_PAUSE"
"""Variable that only the container's pause process carries."""
NOBODY = "65534:65534"


class Bind(NamedTuple):
    """A file or directory of the host that is mounted into the container."""

    source: Path
    target: str
    readonly: bool


def of_container(
    spec: ContainerSpec, image: str, prefix: str, limits: Limits, binds: Iterable[Bind], network: str
) -> dict[str, Any]:
    """The body of a request that creates it. The image's own program, user and checks are not used. `prefix` begins the
    marks of this slave's containers."""
    return {
        "Image": image,
        "Entrypoint": [pause.PATH_INSIDE],
        "Cmd": [],
        "Env": [f"{CONTAINER_MARK}={prefix}{spec.container_id}", f"{PAUSE_MARK}=1"],
        "User": NOBODY,
        "WorkingDir": "/",
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {
            f"{LABEL}slave": prefix.rstrip("/"),
            f"{LABEL}container": spec.container_id,
            f"{LABEL}framework": spec.framework_id,
            f"{LABEL}executor": spec.executor.executor_id,
        },
        "HostConfig": {
            "NetworkMode": network,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none", "Config": {}},
            "Mounts": [
                {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": readonly}
                for source, target, readonly in binds
            ],
            "PidsLimit": limits.pids,
            **_limits(limits),
        },
    }


def of_update(limits: Limits) -> dict[str, Any]:
    """Arguments of the SDK's `update_container` for these limits."""
    return {
        "cpu_shares": limits.cpu_shares,
        "cpu_period": DEFAULT_PERIOD_US if limits.cpu_quota_us is not None else None,
        "cpu_quota": limits.cpu_quota_us,
        "mem_limit": limits.mem_bytes,
        "memswap_limit": limits.mem_bytes,
    }


def _limits(limits: Limits) -> dict[str, Any]:
    """MemorySwap is memory and swap together, so equal to Memory it allows no swap. What is not limited is left out, as the
    engine takes 0 for "not given"."""
    wanted: dict[str, Any] = {"CpuShares": limits.cpu_shares}
    if limits.mem_bytes is not None:
        wanted |= {"Memory": limits.mem_bytes, "MemorySwap": limits.mem_bytes}
    if limits.cpu_quota_us is not None:
        wanted |= {"CpuPeriod": DEFAULT_PERIOD_US, "CpuQuota": limits.cpu_quota_us}
    return wanted
