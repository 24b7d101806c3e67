"""Options of `offerd slave` and `offerd local` for limits beyond those of every task."""

from __future__ import annotations

import os
import re

from offerd.errors import BadInput
from offerd_cli.option_tables import FLAG, Kind, OptionTable, Setting
from offerd_cli.units import parse_amount
from offerd_isolation.base import DEFAULT_OPTIONS

MAX_PIDS = 4_194_304
"""The kernel's maximum (PID_MAX_LIMIT)."""
_RATES = {"rbps": True, "wbps": True, "riops": False, "wiops": False}
"""The keys of io.max, and whether the value is in bytes."""


def _pids(option: str, text: str) -> int | None:
    if text == "max":
        return None
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 2 <= int(text) <= MAX_PIDS:
        raise BadInput(f"{option} {text!r} is neither a number from 2 to {MAX_PIDS} nor max")
    return int(text)


def _io_max(text: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Read `/dev/sda:rbps=50M` or `8:0:rbps=50M`. The kernel takes whole disks only, and reports others when a task starts."""
    match = re.fullmatch(r"(?P<device>/[^:]+|[0-9]+:[0-9]+):(?P<rates>.+)", text)
    if match is None:
        raise BadInput(f"--io-max {text!r} cannot be read; write /dev/sda:rbps=50M,wiops=200")
    rates = []
    for part in match["rates"].split(","):
        key, _, amount = part.partition("=")
        if key not in _RATES:
            raise BadInput(f"--io-max {text!r}: {key!r} is not one of {', '.join(_RATES)}")
        number = (
            parse_amount("disk", amount, f"--io-max {text!r}: {key}")
            if _RATES[key]
            else int(amount)
            if amount.isdecimal()
            else 0
        )
        if number <= 0:
            raise BadInput(f"--io-max {text!r}: {key} must be a number above 0")
        rates.append((key, number))
    return _device_number(match["device"]), tuple(rates)


def _device_number(device: str) -> str:
    if not device.startswith("/"):
        return device
    try:
        status = os.stat(device)
    except OSError as error:
        raise BadInput(f"--io-max {device}: {error.strerror}") from None
    if not status.st_rdev:
        raise BadInput(f"--io-max {device} is not a device; name the disk itself, for example /dev/sda")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _cpuset(option: str, text: str) -> frozenset[int]:
    from offerd_isolation.cgroups.contents import parse_cpus

    try:
        cpus = parse_cpus(text)
    except ValueError as error:
        raise BadInput(f"{option} {text!r}: {error}; write 2-7,12") from None
    if missing := sorted(cpus - set(range(os.cpu_count() or 1))):
        raise BadInput(f"{option} {text!r}: this host has no CPU {missing[0]}")
    return cpus


LIMITS = OptionTable(
    DEFAULT_OPTIONS,
    (
        Setting(
            "cpu_quota",
            "--cpu-quota",
            FLAG,
            "Cap each task at its CPUs; without this, they are only its share when CPUs are scarce.",
        ),
        Setting(
            "pids_max",
            "--pids-max",
            Kind("N", read=_pids),
            "Number of processes and threads that one task may have; max means no limit.",
        ),
        Setting(
            "io_weight",
            "--io-weight",
            FLAG,
            "Share disk bandwidth between tasks in proportion to their CPUs.",
        ),
        Setting(
            "io_max",
            "--io-max",
            Kind("DEV:RATES", read=lambda _, words: tuple(map(_io_max, words)), is_multiple=True),
            "Limit each task's use of a disk, for example /dev/sda:rbps=50M,wiops=200; may be repeated.",
        ),
        Setting(
            "cpuset",
            "--cpuset",
            Kind("LIST", read=_cpuset),
            "Run tasks on these CPUs only, for example 2-7,12.",
            unset="all",
        ),
    ),
)
"""Each row sets a field of `IsolationOptions`."""
