"""A host's resources to offer, and facts that frameworks and people ask for."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offerd import __version__
from offerd.messages import SlaveInfo
from offerd.resources import Resources
from offerd.values import ranges
from offerd_isolation.base import Isolation
from offerd_isolation.cgroups.contents import V1_UNLIMITED_BYTES
from offerd_isolation.cgroups.host import mounts
from offerd_linux.cgroup_membership import V2, cgroup_paths
from offerd_slave.options import SlaveOptions

MIB = 1 << 20
GIB = 1 << 30
PORTS = (31000, 32000)
"""Ports that are usually free on a host; Mesos offers the same."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of one host."""

    resources: Resources
    facts: dict[str, str]
    boot_id: str
    hostname: str


def fingerprint(
    work_dir: Path,
    chosen: Resources | None = None,
    *,
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
    dev: Path = Path("/dev"),
) -> Fingerprint:
    """Look at the host. Resources in `chosen` replace those that were found, by name. Raises `OSError` without /proc."""
    mem_bytes = memory_bytes(proc, sys)
    disk = os.statvfs(work_dir)
    disk_bytes = disk.f_blocks * disk.f_frsize
    scalars = {
        "cpus": millicpus(proc, sys),
        "mem": reserve(mem_bytes, GIB),
        "disk": reserve(disk_bytes, 5 * GIB),
        "gpus": 1000 * gpus(proc, dev),
    }
    found = Resources({name: amount for name, amount in scalars.items() if amount}, {"ports": [PORTS]})
    mode, controllers = cgroup_mode(proc)
    facts = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": system_name(),
        "python": platform.python_version(),
        "offerd": __version__,
        "cgroup": " ".join([mode, *controllers]),
        "numa_nodes": str(numa_nodes(sys)),
        "total_mem_bytes": str(mem_bytes),
        "user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
    }
    boot_id = (proc / "sys/kernel/random/boot_id").read_text().strip()
    return Fingerprint(override(found, chosen), facts, boot_id, socket.gethostname())


def override(found: Resources, chosen: Resources | None) -> Resources:
    """The resources in `chosen`, and those in `found` that it does not name."""
    if chosen is None:
        return found
    names = {*chosen.scalars, *chosen.ranges, *chosen.sets}
    return Resources(
        {**{n: v for n, v in found.scalars.items() if n not in names}, **chosen.scalars},
        {**{n: v for n, v in found.ranges.items() if n not in names}, **chosen.ranges},
        {**{n: v for n, v in found.sets.items() if n not in names}, **chosen.sets},
    )


def reserve(total_bytes: int, kept_bytes: int) -> int:
    """How much may be offered: all but `kept_bytes`, or half of a small host. Mesos does the same, and keeps 1 GiB of memory
    and 5 GiB of disk."""
    offered = total_bytes - kept_bytes if total_bytes >= 2 * kept_bytes else total_bytes // 2
    return offered - offered % MIB  # easier to read


def millicpus(proc: Path, sys: Path) -> int:
    """The processors that the slave may run on, but no more than the quota of its cgroups."""
    amount = 1000 * len(os.sched_getaffinity(0))
    for cgroup in own_cgroups(proc, sys, "cpu"):
        quota, _, period = _read(cgroup / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(cgroup / "cpu.cfs_quota_us"), _read(cgroup / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):  # not `max`, not -1
            amount = min(amount, max(1, 1000 * int(quota) // int(period)))
    return amount


def memory_bytes(proc: Path, sys: Path) -> int:
    """The host's memory, but no more than the limit of the slave's cgroups."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
    amount = int(match[1]) * 1024 if match else 0
    for cgroup in own_cgroups(proc, sys, "memory"):
        limit = _read(cgroup / "memory.max") or _read(cgroup / "memory.limit_in_bytes")
        if limit.isdigit() and int(limit) < V1_UNLIMITED_BYTES:
            amount = min(amount, int(limit))
    return amount


def own_cgroups(proc: Path, sys: Path, controller: str) -> Iterator[Path]:
    """The slave's cgroup and those above it: v2's, and v1's of this controller."""
    try:
        paths = cgroup_paths(proc=proc)
    except (FileNotFoundError, PermissionError):
        return
    for name in paths.keys() & {controller, V2}:
        path, mount = paths[name], sys / "fs/cgroup" / name
        inner = mount / path.lstrip("/")
        yield from (each for each in (inner, *inner.parents) if each == mount or mount in each.parents)


def cgroup_mode(proc: Path) -> tuple[str, list[str]]:
    """How cgroups are mounted, as in `offerd_isolation.cgroups.host.Mounts`; and v2's controllers."""
    found = mounts(_read(proc / "self/mountinfo"))
    controllers = _read(found.v2_mount / "cgroup.controllers").split() if found.v2_mount is not None else []
    return found.mode, controllers


def gpus(proc: Path, dev: Path) -> int:
    """How many NVIDIA GPUs there are: those that the driver lists, or the device files in a container."""
    listed = proc / "driver/nvidia/gpus"
    if listed.is_dir():
        return len(list(listed.iterdir()))
    return sum(1 for path in dev.glob("nvidia*") if re.fullmatch(r"nvidia[0-9]+", path.name))


def numa_nodes(sys: Path) -> int:
    """How many NUMA nodes are online; 1 if the kernel does not say."""
    online = _read(sys / "devices/system/node/online")
    return ranges.size(ranges.parse("nodes", f"[{online}]")) if online else 1


def system_name() -> str:
    """The system's name, as `Debian GNU/Linux 12 (bookworm)`."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _read(path: Path) -> str:
    """The file's text; empty if there is no such file, as not every kernel has every file."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""


def describe(
    options: SlaveOptions, host: Fingerprint, isolation: Isolation, files_address: str, default_user: str
) -> SlaveInfo:
    """What the slave reports of itself to the master."""
    return SlaveInfo(
        hostname=options.hostname or host.hostname,
        resources=host.resources,
        # Frameworks with images can choose slaves by it.
        attributes=({"images": "yes"} if isolation.runs_images else {}) | options.attributes,
        files_address=files_address,
        boot_id=host.boot_id,
        isolation=isolation.name,
        long_fraction=options.settings.long_fraction,
        short_limit_s=options.settings.short_limit_s,
        minimum_offer=options.minimum_offer,
        facts=host.facts,
        max_kill_grace_s=options.settings.max_kill_grace_s,
        default_user=default_user,
    )
