"""What the API answers with about the past. As in `shapes`, but commands read these, too."""

from __future__ import annotations

import msgspec

from offerd_web.core.live import Bar


class Gap(msgspec.Struct):
    """A time of which the history may lack ends of tasks."""

    since: float
    until: float
    missed: int | None
    """How many. Null: not known, perhaps none."""


class Gaps(msgspec.Struct):
    gaps: list[Gap]


class Share(msgspec.Struct):
    """What a framework held on average, from `at` for a step."""

    at: float
    framework_id: str
    framework_name: str
    role: str
    share: float
    held_cpus: float
    held_mem_bytes: float
    running: float
    """Tasks."""


class Shares(msgspec.Struct):
    points: list[Share]
    gaps: list[Gap]


class Utilization(msgspec.Struct):
    """How much of a resource was in use on average, from `at` for a step."""

    at: float
    resource: str
    total: float | None
    held: float | None
    offered: float | None
    used: float | None
    """As slaves measure it."""


class Utilizations(msgspec.Struct):
    points: list[Utilization]
    gaps: list[Gap]


class SlaveChange(msgspec.Struct):
    """Something happened to a slave."""

    at: float
    slave_id: str
    hostname: str
    event: str
    """registered | lost | silent | heard | active | deactivated | draining | drained | disk-full | disk-free."""


class SlaveChanges(msgspec.Struct):
    changes: list[SlaveChange]


class Lanes(msgspec.Struct):
    """Ended tasks as bars."""

    bars: list[Bar]
    """Arrays: framework_id, task_id, slave_id, launched_at, running_since, ended_at, state, is_long, millicpus, reason."""
    is_cut: bool
    """There were more; the latest are here."""
    gaps: list[Gap]


class ReportRow(msgspec.Struct):
    """What tasks held and used."""

    name: str
    """Of the role or user; the framework's id; or the day (UTC)."""
    framework_name: str
    tasks: int
    cpu_s_held: float
    """Cpus times seconds."""
    cpu_s_used: float
    cpu_s_wasted: float
    """Held by tasks that were ended at their time limits."""
    mem_byte_s_held: float
    mem_byte_s_used: float
    mem_byte_s_wasted: float


class Report(msgspec.Struct):
    rows: list[ReportRow]
    gaps: list[Gap]
    only_of: str
