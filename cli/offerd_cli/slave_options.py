"""The options of `offerd slave`, and those of them that `offerd local` has, as tables of rows that each set a field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from offerd.errors import BadInput
from offerd.resources import format_scalar
from offerd_cli.limit_options import LIMITS
from offerd_cli.option_tables import (
    DIRECTORY,
    FLAG,
    PART,
    PORT,
    TEXT,
    TIME,
    Kind,
    OptionTable,
    Setting,
    number,
)
from offerd_cli.units import parse_amount, parse_pairs, parse_resources
from offerd_slave.options import SlaveOptions

MIN_LOG_BYTES = 4096
MIN_TASK_BYTES = 1 << 20


def default_work_dir() -> Path:
    """Where a slave keeps its state by default: the system's directory for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/offerd/slave")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "offerd" / "slave"


def _log_bytes(option: str, text: str) -> int:
    """Read `10M` as bytes; a size too small for a useful log is refused."""
    size = parse_amount("disk", text, option)
    if size < MIN_LOG_BYTES:
        raise BadInput(f"{option} {text} is less than 4K; give logs some room")
    return size


def _size_or_max(resource: str) -> Kind:
    """A size for each task, or `max`, which is read as 0."""

    def read(option: str, text: str) -> int:
        if text == "max":
            return 0
        if (size := parse_amount(resource, text, option)) < MIN_TASK_BYTES:
            raise BadInput(f"{option} {text} is less than 1M; give tasks some room, or max for no limit")
        return size

    return Kind("SIZE", read=read, write=partial(format_scalar, resource))


_LOG_SIZE = Kind("SIZE", read=_log_bytes, write=partial(format_scalar, "disk"))
_DISK = Kind("SIZE", read=lambda option, text: parse_amount("disk", text, option))
_RESOURCES = Kind("RESOURCES", read=parse_resources)
_PAIRS = Kind("K=V,...", read=lambda option, text: parse_pairs([text], option, commas=True))
_PATTERNS = Kind("PATTERN,...", read=lambda _, text: tuple(word for word in text.split(",") if word))
_PULL = Kind(type=click.Choice(["never", "if-absent", "always"]))

IP = Setting("ip", "--ip", TEXT, "Address to listen on.", "ADDRESS")
HTTP_PORT = Setting(
    "http_port", "--http-port", PORT, "Port on which sandbox files are served; 0 takes a free one."
)
ISOLATION = Setting(
    "isolation",
    "--isolation",
    TEXT,
    "Isolation module: auto (the best that the host supports), cgroups, docker, noop, or another that is installed.",
    "NAME",
)
LONG_FRACTION = Setting(
    "settings.long_fraction",
    "--long-fraction",
    PART,
    "Fraction of the slave that long tasks may hold; unless it is 0, they may hold at least one CPU.",
)
SHORT_LIMIT = Setting(
    "settings.short_limit_s",
    "--short-limit",
    TIME,
    "Longest time limit of a short task; tasks with a longer limit, or none, are long.",
)

_OFFER = (
    IP,
    HTTP_PORT,
    Setting(
        "data_dir",
        "--data-dir",
        replace(DIRECTORY, read=lambda _, path: path.absolute()),
        "Directory for blocks of data sets (`offerd data`).",
        unset="in the work directory",
    ),
    Setting("hostname", "--hostname", TEXT, "Name of this slave.", "NAME", unset="the host's"),
    Setting(
        "resources",
        "--resources",
        _RESOURCES,
        "Resources to offer, for example cpus=4,mem=8G; for others, the host's amount is offered.",
        unset="all of the host's",
    ),
    Setting(
        "attributes",
        "--attributes",
        _PAIRS,
        "Attributes by which frameworks may choose slaves, for example rack=7,gpu=yes.",
        unset="none",
    ),
    Setting(
        "minimum_offer",
        "--minimum-offer",
        _RESOURCES,
        "Resources that must be free before the slave is offered, for example cpus=0.5,mem=64M.",
        unset="the master's setting",
    ),
    LONG_FRACTION,
    SHORT_LIMIT,
)
_ISOLATION = (
    ISOLATION,
    *(row.in_part("limits") for row in LIMITS.rows),
    Setting(
        "limits.image",
        "--image",
        TEXT,
        "Image for the containers of tasks that name none (isolation docker).",
        "IMAGE",
        unset="none",
    ),
    Setting(
        "limits.images",
        "--images",
        _PATTERNS,
        "Images that tasks may name besides --image, for example debian:12,registry.example/team/*; * allows any.",
        unset="none",
    ),
    Setting(
        "limits.pull",
        "--pull",
        _PULL,
        "Fetch images never, if they are absent, or always; a task may have its own setting.",
    ),
    Setting(
        "limits.network",
        "--network",
        TEXT,
        "Network of containers, as for `docker run --network`.",
        "NAME",
    ),
    Setting(
        "limits.engine_timeout_s",
        "--engine-timeout",
        TIME,
        "Longest time that the Docker engine may take to make a container.",
    ),
)
_TASKS = (
    Setting(
        "default_user",
        "--default-user",
        TEXT,
        "User for the tasks of frameworks that name none.",
        "USER",
        unset="nobody as root, else the slave's own",
    ),
    Setting(
        "settings.default_task_mem_bytes",
        "--default-task-mem",
        _size_or_max("mem"),
        "Memory limit of a task that declares none; max means no limit.",
    ),
    Setting(
        "disk_per_task_bytes",
        "--disk-per-task",
        _size_or_max("disk"),
        "Disk limit of a task that declares none; max means no limit.",
        unset="10G, at most a tenth of the disk",
    ),
    Setting(
        "settings.disk_floor_bytes",
        "--disk-floor",
        _DISK,
        "Free space in the work directory below which the slave takes no new tasks.",
        unset="64M, at most 1% of the disk",
    ),
    Setting(
        "settings.kill_grace_s",
        "--kill-grace",
        TIME,
        "Time from TERM to KILL for a task, unless it asks for another.",
    ),
    Setting(
        "settings.max_kill_grace_s",
        "--max-kill-grace",
        TIME,
        "Longest time from TERM to KILL that a task may ask for.",
    ),
    Setting(
        "settings.executor_registration_timeout_s",
        "--executor-registration-timeout",
        TIME,
        "Longest time that a new executor may take to register with the slave.",
    ),
    Setting(
        "log_bytes",
        "--log-size",
        _LOG_SIZE,
        "Size that the kept end of a task's stdout may have, and that of its stderr; more is kept while someone waits for "
        "the output.",
    ),
)
_LEFTOVERS = (
    Setting(
        "leftovers.delay_s",
        "--gc-delay",
        TIME,
        "Time that files of ended tasks and executors are kept; the fuller the disk, the shorter.",
    ),
    Setting(
        "leftovers.most_tasks",
        "--gc-tasks",
        number(0),
        "Number of ended tasks whose files are kept, for each running executor.",
    ),
    Setting(
        "leftovers.most_executors",
        "--gc-executors",
        number(0),
        "Number of ended executors whose files are kept.",
    ),
    Setting(
        "leftovers.headroom",
        "--gc-disk-headroom",
        PART,
        "Fraction of the disk to keep free: below that, files of ended tasks and executors are removed at once.",
    ),
    Setting(
        "insecure",
        "--insecure",
        FLAG,
        "Obey a master without keys, and serve files to anybody who reaches this host.",
    ),
    Setting("ephemeral", "--ephemeral", FLAG, "End all tasks and remove the work directory on SIGTERM."),
)

SLAVE = OptionTable(SlaveOptions(), (*_OFFER, *_ISOLATION, *_TASKS, *_LEFTOVERS))
LOCAL_SLAVES = OptionTable(
    SlaveOptions(),
    (ISOLATION, *(row.in_part("limits") for row in LIMITS.rows), SHORT_LIMIT, LONG_FRACTION),
)
"""The rows that `offerd local` offers for its slaves."""


def slave_options(master: str, work_dir: Path, words: Mapping[str, Any]) -> SlaveOptions:
    """The slave's options from the command line. Raises `BadInput`."""
    options = replace(SLAVE.read(words), master=master, work_dir=work_dir)
    grace_s, max_grace_s = options.settings.kill_grace_s, options.settings.max_kill_grace_s
    if grace_s > max_grace_s:
        raise BadInput(f"--kill-grace {grace_s:g}s is longer than --max-kill-grace {max_grace_s:g}s")
    return options
