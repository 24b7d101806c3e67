"""Values on a command line, read exactly, and numbers formatted for people."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from offerd.errors import BadInput, BadResources
from offerd.resources import Resources, format_scalar, parse_scalar
from offerd.wire.posix_text import word_of

_DURATION = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d))+\Z")
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_DURATION_S = 10 * 365 * 86400.0
"""Ten years. A longer duration is a typing error, and would make timers consider overflow."""


def parse_duration(text: str) -> float:
    """Seconds from `500ms`, `2s`, `5m`, `1h30m`, `7d`. Raises `BadInput`, also for a number without a unit."""
    text = text.strip()
    if not _DURATION.match(text):
        hint = f"write {text}s or {text}m" if re.fullmatch(r"[0-9.]+", text) else "write 500ms, 2s, 5m or 1h"
        raise BadInput(f"{text!r} is not a duration; {hint}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text))
    if seconds > MAX_DURATION_S:
        raise BadInput(f"{text!r} is longer than ten years; leave the limit out instead")
    return seconds


def exact_duration(seconds: float) -> str:
    """The text that `parse_duration` reads as this number of seconds: `7d`, `60s`, `500ms`."""
    if seconds and seconds % _SECONDS["d"] == 0:
        return f"{seconds / _SECONDS['d']:.0f}d"
    if seconds == int(seconds):
        return f"{seconds:.0f}s"
    return f"{seconds * 1000:.3f}".rstrip("0").rstrip(".") + "ms"


def format_duration(seconds: float) -> str:
    """Short, at most two units: `120ms`, `3.2s`, `4m10s`, `2h05m`, `3d4h`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    for size, small, unit, small_unit in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit}" + (f"{rest:02d}{small_unit}" if rest else "")
    return f"{whole}s"


def format_bytes(amount: int) -> str:
    """Three digits and a binary unit: `812K`, `3.4G`. Rounded; `offerd.resources.format_scalar` is exact."""
    size, units = float(amount), ["B", "K", "M", "G", "T", "P"]
    while size >= 1000 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f}{units[0]}" if size >= 10 or size == int(size) else f"{size:.1f}{units[0]}"


def format_quantity(name: str, amount: int) -> str:
    """An amount of the resource `name`, formatted for people."""
    if name in ("mem", "disk"):
        return format_bytes(amount)
    if name in ("ports",):
        return str(amount)
    return format_scalar(name, amount)


def parse_amount(name: str, text: str, option: str) -> int:
    """Millicpus or bytes from an option such as `--cpus 0.5` or `--mem 128M`. Raises `BadResources`, which is `BadInput`."""
    try:
        return parse_scalar(name, text)
    except BadResources as error:
        fault = str(error).removeprefix(f"resources: {name}={text}").replace(f"{name}=", "")
        raise BadResources(f"{option} {text}{fault}") from None


def parse_resources(option: str, text: str) -> Resources:
    """Resources from an option such as `--resources cpus=4,mem=8G`. Raises `BadResources`, which is `BadInput`."""
    try:
        return Resources.parse(text)
    except BadResources as error:
        raise BadResources(f"{option}: {str(error).removeprefix('resources: ')}") from None


def check_size(cpus: str, mem: str) -> None:
    """Raise `BadInput` for a `--cpus` or `--mem` that cannot be read: a job that reads them later does not know the options."""
    parse_amount("cpus", cpus, "--cpus")
    parse_amount("mem", mem, "--mem")


def task_resources(cpus: str, mem: str) -> Resources:
    """The resources of one task. Raises `BadInput` for amounts that cannot be read, or if all are zero."""
    scalars = {"cpus": parse_amount("cpus", cpus, "--cpus"), "mem": parse_amount("mem", mem, "--mem")}
    resources = Resources({name: amount for name, amount in scalars.items() if amount})
    if not resources:
        raise BadInput("a task needs some resources; give an amount above zero with --cpus or --mem")
    return resources


def traveling(word: str) -> str:
    """A word of our command line in a form for messages (`offerd.wire.posix_text`): the same bytes, whatever our locale."""
    return word_of(os.fsencode(word))


def own_umask() -> int:
    """The umask of this process."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def parse_pairs(
    words: Iterable[str], what: str, *, commas: bool = False, once: bool = False
) -> dict[str, str]:
    """`KEY=VALUE` words as a dictionary; the last value of a key counts. With `commas`, each word may hold several pairs.
    Raises `BadInput`; with `commas` or `once` also for a key that is given twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        for part in word.split(",") if commas else (word,):
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise BadInput(f"{what} {part!r} cannot be read; write KEY=VALUE")
            if (commas or once) and key.strip() in pairs:
                raise BadInput(f"{what}: {key.strip()} is given twice; give it once")
            pairs[key.strip()] = value
    return pairs
