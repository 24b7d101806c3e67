"""The formats of cgroup v2's files, as descriptors: cgroupspy's, extended for `max`, pressure lines and nested keys.

The kernel's Documentation/admin-guide/cgroup-v2.rst, "Conventions", has the formats.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from cgroupspy.interfaces import BaseFileInterface

T = TypeVar("T")

DEFAULT_PERIOD_US = 100_000
"""The kernel's default period of cpu.max, in microseconds: how often a quota is filled up."""
V1_UNLIMITED_BYTES = 1 << 62
"""cgroup v1 shows "no limit" as a number above this, the largest possible number of pages."""


class Holder(Protocol):
    """An object with control files, which it reads and writes by name. Raises what `Controller` raises."""

    def get_property(self, filename: bytes) -> str: ...

    def set_property(self, filename: bytes, value: object) -> None: ...


class File(BaseFileInterface, Generic[T]):  # type: ignore[misc]  # cgroupspy ships no types
    """One control file: reading the attribute reads the file, setting it writes the file."""

    def __get__(self, instance: Holder, owner: type | None = None) -> T:
        return cast(T, self.sanitize_get(instance.get_property(self.filename)))

    def __set__(self, instance: Holder, value: T) -> None:
        if self.readonly:
            raise AttributeError(f"{self.filename.decode()} cannot be written")
        instance.set_property(self.filename, self.sanitize_set(value))


class Integer(File[int]):
    """A number."""

    def sanitize_get(self, value: str) -> int:
        return int(value)

    def sanitize_set(self, value: int) -> str:
        return str(value)


class Flag(File[bool]):
    """0 or 1."""

    def sanitize_get(self, value: str) -> bool:
        return value == "1"

    def sanitize_set(self, value: bool) -> str:
        return "1" if value else "0"


class MaxInteger(File["int | None"]):
    """A number, or `max`, which is None: no limit is a value of its own, never a large number."""

    def sanitize_get(self, value: str) -> int | None:
        return None if value == "max" else int(value)

    def sanitize_set(self, value: int | None) -> str:
        return "max" if value is None else str(value)


class CpuMax(File["tuple[int | None, int]"]):
    """`QUOTA PERIOD`, both in microseconds: the cpu time that may be used in each period. None is no quota."""

    def sanitize_get(self, value: str) -> tuple[int | None, int]:
        quota, _, period = value.partition(" ")
        return (None if quota == "max" else int(quota), int(period) if period else DEFAULT_PERIOD_US)

    def sanitize_set(self, value: tuple[int | None, int]) -> str:
        quota, period = value
        return f"{'max' if quota is None else quota} {period}"


class Words(File["frozenset[str]"]):
    """Names with blanks between them. Writing enables the named controllers (`+name`)."""

    def sanitize_get(self, value: str) -> frozenset[str]:
        return frozenset(value.split())

    def sanitize_set(self, value: frozenset[str]) -> str:
        return " ".join(f"+{name}" for name in sorted(value))


class Numbers(File["list[int]"]):
    """A number in each line."""

    def sanitize_get(self, value: str) -> list[int]:
        return [int(word) for word in value.split()]


class Cpus(File["frozenset[int]"]):
    """`0-3,7`."""

    def sanitize_get(self, value: str) -> frozenset[int]:
        return parse_cpus(value)

    def sanitize_set(self, value: frozenset[int]) -> str:
        return ",".join(map(str, sorted(value)))


class FlatKeyed(File["dict[str, int]"]):
    """`KEY NUMBER` in each line."""

    def sanitize_get(self, value: str) -> dict[str, int]:
        pairs = (line.split() for line in value.splitlines())
        return {key: int(number) for key, number in pairs}

    def sanitize_set(self, value: dict[str, int]) -> str:
        return "\n".join(f"{key} {number}" for key, number in value.items())


class NestedKeyed(File["dict[str, dict[str, int | None]]"]):
    """`NAME KEY=NUMBER KEY=max ...` in each line: io.max, io.stat."""

    def sanitize_get(self, value: str) -> dict[str, dict[str, int | None]]:
        found = {}
        for line in value.splitlines():
            name, *pairs = line.split()
            keyed = (pair.partition("=") for pair in pairs)
            found[name] = {key: None if number == "max" else int(number) for key, _, number in keyed}
        return found

    def sanitize_set(self, value: dict[str, dict[str, int | None]]) -> str:
        # The kernel reads one line from each write(2).
        lines = (
            " ".join([name, *(f"{key}={'max' if n is None else n}" for key, n in pairs.items())])
            for name, pairs in value.items()
        )
        return "\n".join(lines)


class Stall(NamedTuple):
    """How long tasks waited: in percent of the last 10, 60 and 300 s, and in microseconds altogether."""

    avg10: float
    avg60: float
    avg300: float
    total_us: int


class Pressure(File["dict[str, Stall]"]):
    """Pressure stall information: `some` (at least one task waited) and `full` (all did), which the host's cpu has not."""

    readonly = True

    def sanitize_get(self, value: str) -> dict[str, Stall]:
        found = {}
        for line in value.splitlines():
            kind, *pairs = line.split()
            figures: dict[str, Any] = dict(pair.split("=") for pair in pairs)
            found[kind] = Stall(
                float(figures["avg10"]),
                float(figures["avg60"]),
                float(figures["avg300"]),
                int(figures["total"]),
            )
        return found


def parse_cpus(text: str) -> frozenset[int]:
    """The numbers in `0-3,7`. Raises `ValueError`."""
    found: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part!r} is neither a cpu nor a range of them")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)
