"""The limits of one cgroup: the numbers for its files, from resources and the slave's options.

Also those of a Docker engine's containers. docs/isolation.md has a table with the numbers for a task of 512 MB and half a cpu.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from offerd.resources import Resources
from offerd_isolation.base import IsolationOptions
from offerd_isolation.cgroups.contents import DEFAULT_PERIOD_US

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20

EXECUTOR_MEM_BYTES = 64 * MIB
"""Memory that a container gets beyond its resources, for the shim, the executor itself and its tasks' output in the page
cache. Offers do not count it: a slave keeps a fixed amount of memory back (`fingerprint.reserve`), however many containers
it has."""
EXECUTOR_MILLICPUS = 100
"""The cpu quota that it gets beyond its resources, where tasks have quotas of their own."""
EXECUTOR_PIDS_FACTOR = 4
"""An executor that keeps its tasks in its own cgroup may have this many times the processes of one task."""
CONTAINER_EXTRA_PIDS = 64
"""Processes of a Docker container beyond those of one task."""
MIN_WEIGHT, MAX_WEIGHT = 1, 10_000
MIN_SHARES, MAX_SHARES, SHARES_OF_A_CPU = 2, 262_144, 1024
MIN_QUOTA_US = 1000
NESTED_DEPTH, NESTED_CGROUPS = 4, 64
"""How deep, and how many, the cgroups are that a task's user may make below the task's cgroup."""

OOM_GROUP_LABEL = "offerd.oom_group"
"""Label of a task: with `0` the kernel kills one process of it when it is over its memory, not the task as a whole."""

IoMax = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""`(("8:0", (("rbps", 1048576),)),)`: hashable and comparable."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults are those of a new cgroup. None is no limit; for quota, io and cpus the file is then not written."""

    cpu_weight: int = 100
    cpu_quota_us: int | None = None  # in each DEFAULT_PERIOD_US
    mem_bytes: int | None = None
    no_swap: bool = False
    oom_group: bool = False
    pids: int | None = None
    io_weight: int | None = None
    io_max: IoMax = ()
    cpus: frozenset[int] | None = None
    cpu_shares: int = SHARES_OF_A_CPU  # in place of cpu_weight for Docker engines and cgroup v1


NEW_CGROUP = Limits()


def weight(millicpus: int) -> int:
    """cpu.weight and io.weight: 100, the kernel's default, for each cpu."""
    return min(MAX_WEIGHT, max(MIN_WEIGHT, millicpus // 10))


def shares(millicpus: int) -> int:
    """cpu.shares of v1, which engines take too: 1024, the default, for each cpu."""
    return min(MAX_SHARES, max(MIN_SHARES, millicpus * SHARES_OF_A_CPU // 1000))


def weight_of_shares(shares: int) -> int:
    """cpu.weight, as runc before version 1.3.2 converts it from shares: 39 for each cpu. Later versions convert otherwise."""
    return 1 + (shares - 2) * 9999 // 262142


def quota_us(millicpus: int) -> int:
    """The quota of cpu.max, in microseconds of each period, for this many cpus."""
    return max(MIN_QUOTA_US, millicpus * DEFAULT_PERIOD_US // 1000)


def whole_pages(amount: int) -> int:
    """Rounded down to whole pages, as the kernel does."""
    return amount - amount % PAGE_BYTES


def _mem_bytes(declared: int) -> int | None:
    """No limit for a task that declares no memory; at least one page for others."""
    return max(PAGE_BYTES, whole_pages(declared)) if declared else None


def with_executor(declared: int) -> int:
    """How much memory a container may use whose tasks and executor declare this much: there is room for the executor."""
    return whole_pages(declared + EXECUTOR_MEM_BYTES)


def _container_mem_bytes(declared: int) -> int | None:
    """No limit if neither its executor nor a task declares memory."""
    return with_executor(declared) if declared else None


def of_task(resources: Resources, labels: Mapping[str, str], options: IsolationOptions) -> Limits:
    """The limits of a task's own cgroup. A task that declares no memory has no limit here: its slave gives it some before
    (`--default-task-mem`).
    """
    millicpus, mem_bytes = resources.millicpus, resources.mem_bytes
    return Limits(
        cpu_weight=weight(millicpus),
        cpu_quota_us=quota_us(millicpus) if options.cpu_quota and millicpus else None,
        mem_bytes=_mem_bytes(mem_bytes),
        no_swap=True,
        oom_group=labels.get(OOM_GROUP_LABEL) != "0",
        pids=options.pids_max,
        io_weight=weight(millicpus) if options.io_weight else None,
        io_max=options.io_max,
    )


def of_container(
    resources: Resources, options: IsolationOptions, *, places_tasks: bool, unlimited: bool
) -> Limits:
    """The limits of an executor together with all its tasks. `places_tasks`: the tasks have cgroups of their own.
    `unlimited`: one of them declares no memory, so there is no sum."""
    millicpus = resources.millicpus
    quota = None
    if options.cpu_quota:
        spare = EXECUTOR_MILLICPUS if places_tasks else 0
        quota = quota_us(max(EXECUTOR_MILLICPUS, millicpus + spare))
    return Limits(
        cpu_weight=weight(millicpus),
        cpu_quota_us=quota,
        mem_bytes=None if unlimited else _container_mem_bytes(resources.mem_bytes),
        no_swap=True,
        io_weight=weight(millicpus) if options.io_weight else None,
        cpus=options.cpuset or None,
    )


def of_executor(own: Resources, options: IsolationOptions) -> Limits:
    """The limits of the executor's own leaf, beside its tasks; its memory is limited with the container's. It has the weight
    of at least half a cpu, as a slow executor delays all its tasks."""
    return Limits(
        cpu_weight=max(weight(own.millicpus), weight(500)),
        no_swap=True,
        pids=None if options.pids_max is None else EXECUTOR_PIDS_FACTOR * options.pids_max,
        io_max=options.io_max,
    )


def of_tasks(resources: Resources) -> Limits:
    """The limits of the cgroup that holds the tasks' leaves."""
    return Limits(cpu_weight=weight(resources.millicpus))


def of_docker_container(resources: Resources, options: IsolationOptions) -> Limits:
    """The limits of a Docker engine's container: an executor and all its tasks, which have no limits of their own."""
    of_cpus = shares(resources.millicpus)
    limits = Limits(
        cpu_weight=weight_of_shares(of_cpus),
        cpu_shares=of_cpus,
        cpu_quota_us=quota_us(resources.millicpus + EXECUTOR_MILLICPUS) if options.cpu_quota else None,
        pids=pids_of_docker_container(options),
    )
    return with_mem_bytes(limits, _container_mem_bytes(resources.mem_bytes))


def pids_of_docker_container(options: IsolationOptions) -> int | None:
    """The limit of processes in a Docker engine's container, however many tasks it has."""
    return None if options.pids_max is None else options.pids_max + CONTAINER_EXTRA_PIDS


def with_mem_bytes(limits: Limits, mem_bytes: int | None) -> Limits:
    """The limits of a Docker engine's container with this memory limit: it may swap only if there is none."""
    return replace(limits, mem_bytes=mem_bytes, no_swap=mem_bytes is not None)
