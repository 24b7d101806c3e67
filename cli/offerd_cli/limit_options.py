"""Options of `offerd slave` and `offerd local` about limits beyond those that every task has anyway."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from offerd.errors import BadInput
from offerd_cli.units import parse_amount

F = TypeVar("F", bound=Callable[..., Any])

MAX_PIDS = 4_194_304
"""What the kernel can count (PID_MAX_LIMIT)."""
_RATES = {"rbps": True, "wbps": True, "riops": False, "wiops": False}
"""What io.max knows; whether it is in bytes."""


def limit_options(command: F) -> F:
    """Add all of them; the command gets `cpu_quota`, `pids_max`, `io_weight`, `io_max` and `cpuset`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--cpu-quota", is_flag=True, help="A task's cpus are a cap, too, not only its share."),
    click.option(
        "--pids-max",
        default="1024",
        show_default=True,
        metavar="N",
        help="Processes and threads that one task may have; max = any number.",
    ),
    click.option("--io-weight", is_flag=True, help="Share disks as cpus are shared."),
    click.option(
        "--io-max",
        multiple=True,
        metavar="DEV:RATES",
        help="Limit each task on a disk, as /dev/sda:rbps=50M,wiops=200 (may be repeated).",
    ),
    click.option(
        "--cpuset", default="", metavar="LIST", help="Run tasks on these processors only, as 2-7,12."
    ),
)


def isolation_options(
    *, cpu_quota: bool, pids_max: str, io_weight: bool, io_max: Sequence[str], cpuset: str
) -> Any:
    """The `IsolationOptions` that these words mean. Raises `BadInput`."""
    from offerd_isolation.base import IsolationOptions

    return IsolationOptions(
        cpu_quota=cpu_quota,
        pids_max=_pids(pids_max),
        io_weight=io_weight,
        io_max=tuple(_io_max(word) for word in io_max),
        cpuset=_cpuset(cpuset),
    )


def words(
    *, cpu_quota: bool, pids_max: str, io_weight: bool, io_max: Sequence[str], cpuset: str
) -> list[str]:
    """The same options as words of another command line. Raises `BadInput` for what no slave would take."""
    isolation_options(
        cpu_quota=cpu_quota, pids_max=pids_max, io_weight=io_weight, io_max=io_max, cpuset=cpuset
    )
    found = ["--pids-max", pids_max]
    found += ["--cpu-quota"] if cpu_quota else []
    found += ["--io-weight"] if io_weight else []
    for word in io_max:
        found += ["--io-max", word]
    return [*found, "--cpuset", cpuset] if cpuset else found


def _pids(text: str) -> int | None:
    if text == "max":
        return None
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 2 <= int(text) <= MAX_PIDS:
        raise BadInput(f"--pids-max {text!r} is no number from 2 to {MAX_PIDS}, and not max")
    return int(text)


def _io_max(text: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """`/dev/sda:rbps=50M` or `8:0:rbps=50M`; the kernel takes whole disks only, and says so when a task starts."""
    match = re.fullmatch(r"(?P<device>/[^:]+|[0-9]+:[0-9]+):(?P<rates>.+)", text)
    if match is None:
        raise BadInput(f"--io-max {text!r} cannot be read; write /dev/sda:rbps=50M,wiops=200")
    rates = []
    for part in match["rates"].split(","):
        key, _, amount = part.partition("=")
        if key not in _RATES:
            raise BadInput(f"--io-max {text!r}: {key!r} is none of {', '.join(_RATES)}")
        number = parse_amount("disk", amount) if _RATES[key] else int(amount) if amount.isdecimal() else 0
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
        raise BadInput(f"--io-max {device} is no device; name the disk itself, as /dev/sda")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _cpuset(text: str) -> frozenset[int]:
    from offerd_isolation.cgroups.contents import parse_cpus

    try:
        cpus = parse_cpus(text)
    except ValueError as error:
        raise BadInput(f"--cpuset {text!r}: {error}; write 2-7,12") from None
    if missing := sorted(cpus - set(range(os.cpu_count() or 1))):
        raise BadInput(f"--cpuset {text!r}: this host has no processor {missing[0]}")
    return cpus
