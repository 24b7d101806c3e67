"""Resources: what a slave has, an offer holds and a task takes.

There are three kinds, all exact: *scalars* (`cpus`, `gpus` and any other name in thousandths; `mem` and `disk` in bytes),
*ranges* of whole numbers (`ports`) and *sets* of words. Inside there are only integers, never a float, so a thousand tasks of
0.001 cpu fit exactly into one cpu.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from offerd.errors import BadResources
from offerd.values import ranges as rng
from offerd.values.bounds import (
    MAX_AMOUNT,
    MAX_LISTS,
    MAX_NAMES,
    MAX_PIECES,
    MAX_WORDS,
    Amount,
    ResourceName,
    Word,
)
from offerd.values.ranges import Range
from offerd.values.screen_text import printable

BYTE_SCALARS = frozenset({"mem", "disk"})
"""Scalars counted in bytes. Every other scalar is counted in thousandths (`cpus`: millicpus)."""
_MISSPELT = {
    **dict.fromkeys(("cpu", "core", "cores", "vcpus", "processors"), "cpus"),
    **dict.fromkeys(("memory", "ram", "mems"), "mem"),
    **dict.fromkeys(("storage",), "disk"),
    "gpu": "gpus",
}
"""Names that no slave has, by the name that was meant: a framework would wait for these without end."""

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
MAX_QUANTITY = MAX_AMOUNT
"""The most that one amount may be, and where sums stop: an exbibyte. So no number from a peer can break the arithmetic."""

Ranges = Annotated[list[Range], Meta(max_length=MAX_PIECES)]
Words = Annotated[list[Word], Meta(max_length=MAX_WORDS)]

T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z", re.IGNORECASE)
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([BKMGTP]?)(?:i?B)?\Z", re.IGNORECASE)


class Resources(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An amount of resources: immutable, exact, and comparable with `==`.

        need = Resources.of(cpus=0.5, mem="512M")
        while offer_left.covers(need):
            offer_left -= need

    Make one with `of` or `parse`. `+` adds; `-` subtracts, and raises `BadResources` if there is not enough. The constructor
    takes whole numbers in the units of the fields, and raises `BadResources` for values that are not as the fields say.
    """

    scalars: Annotated[dict[ResourceName, Amount], Meta(max_length=MAX_NAMES)] = {}
    """Amounts by name, above 0: bytes of `mem` and `disk`, thousandths of everything else (`cpus`: millicpus)."""
    ranges: Annotated[dict[ResourceName, Ranges], Meta(max_length=MAX_LISTS)] = {}
    """Ranges of numbers by name, as `ports`: inclusive `(first, last)` pairs, sorted, with gaps between them."""
    sets: Annotated[dict[ResourceName, Words], Meta(max_length=MAX_LISTS)] = {}
    """Sets of words by name, sorted."""

    def __post_init__(self) -> None:
        for amount in self.scalars.values():
            if type(amount) is not int or not 0 < amount <= MAX_QUANTITY:
                raise BadResources(
                    f"a scalar must be a positive whole number, not {printable(repr(amount), 80)}; "
                    "other numbers, and units, are for Resources.of"
                )
        if self.ranges:
            for name, spans in self.ranges.items():
                if len(spans) == 1 and 0 <= spans[0][0] <= spans[0][1]:
                    continue  # most slaves have one range; it is in every offer
                if not rng.is_normal(spans):
                    raise BadResources(f"{name}: ranges must be sorted, apart and not empty")
        if self.sets:
            for name, words in self.sets.items():
                if not words or words != sorted(set(words)):
                    raise BadResources(f"{name}: a set must be sorted, without doubles and not empty")

    # -- making -----------------------------------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        *,
        cpus: float | str | Decimal = 0,
        mem: int | str = 0,
        disk: int | str = 0,
        gpus: float | str | Decimal = 0,
        ports: Iterable[Range] = (),
        **more: float | str | Decimal,
    ) -> Resources:
        """Make an amount: `of(cpus=0.5, mem="512M", ports=[(31000, 31009)])`.

        `mem` and `disk` are bytes (int), or a text with a unit: B, K, M, G, T, P, by 1,024. Everything else is a number,
        exact to a thousandth, also as a text or `Decimal`. Raises `BadResources` in one line that names the resource.
        """
        scalars: dict[str, int] = {}
        for name, amount in {"cpus": cpus, "mem": mem, "disk": disk, "gpus": gpus, **more}.items():
            if exact := parse_scalar(name, str(amount), bare_bytes=not isinstance(amount, str)):
                scalars[name] = exact
        try:
            spans = rng.union(ports)
        except (TypeError, ValueError):
            raise BadResources(
                f"resources: ports={printable(repr(ports), 80)} is not a list of ranges; write ports=[(31000, 31009)]"
            ) from None
        return cls(scalars, {"ports": spans} if spans else {})

    @classmethod
    def parse(cls, text: str) -> Resources:
        """Read a text such as `cpus=4,mem=8G,ports=[31000-32000],disks={a,b}`. Raises `BadResources` in one line that names
        the part that is wrong.
        """
        scalars: dict[str, int] = {}
        spans: dict[str, list[Range]] = {}
        sets: dict[str, list[str]] = {}
        seen: set[str] = set()
        for part in _split(" ".join(text.split())):  # a line end in the text would be one in the error
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not _NAME.match(name):
                raise BadResources(
                    f"resources: cannot read {part.strip()!r}; write NAME=AMOUNT, as in cpus=4,mem=8G"
                )
            if name in seen:
                raise BadResources(f"resources: {name} is given twice; give it once")
            seen.add(name)
            if value.startswith("["):
                if found := rng.parse(name, value):
                    spans[name] = found
            elif value.startswith("{"):
                if words := _parse_set(name, value):
                    sets[name] = words
            elif amount := parse_scalar(name, value):
                scalars[name] = amount
        return cls(scalars, spans, sets)

    # -- asking -----------------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self.scalars or self.ranges or self.sets)

    @property
    def millicpus(self) -> int:
        """Thousandths of a cpu."""
        return self.scalars.get("cpus", 0)

    @property
    def mem_bytes(self) -> int:
        """Bytes of memory."""
        return self.scalars.get("mem", 0)

    def quantities(self) -> dict[str, int]:
        """How much there is of each resource: scalars as they are, of ranges and sets the number of their members."""
        if not (self.ranges or self.sets):
            return self.scalars
        amounts = dict(self.scalars)
        for name, spans in self.ranges.items():
            amounts[name] = rng.size(spans)
        for name, words in self.sets.items():
            amounts[name] = len(words)
        return amounts

    def covers(self, other: Resources) -> bool:
        """Whether `other` can be subtracted from this."""
        mine = self.scalars
        for name, amount in other.scalars.items():
            if mine.get(name, 0) < amount:
                return False
        for name, spans in other.ranges.items():
            if not rng.covers(self.ranges.get(name, []), spans):
                return False
        return all(set(words) <= set(self.sets.get(name, ())) for name, words in other.sets.items())

    # -- arithmetic -------------------------------------------------------------------------------------------------

    def __add__(self, other: Resources) -> Resources:
        if not other:
            return self
        scalars = self.scalars.copy()
        for name, amount in other.scalars.items():
            scalars[name] = min(scalars.get(name, 0) + amount, MAX_QUANTITY)
        if not (self.ranges or other.ranges or self.sets or other.sets):
            return Resources(scalars)
        return Resources(
            scalars,
            _merge(self.ranges, other.ranges, lambda mine, theirs: rng.union(mine + theirs)),
            _merge(self.sets, other.sets, lambda mine, theirs: sorted({*mine, *theirs})),
        )

    def __sub__(self, other: Resources) -> Resources:
        """What is left when `other` is taken out. Raises `BadResources` if it is not in here."""
        if not other:
            return self
        scalars = self.scalars.copy()
        for name, amount in other.scalars.items():
            left = scalars.get(name, 0) - amount
            if left > 0:
                scalars[name] = left
            elif left == 0:
                del scalars[name]
            else:
                raise BadResources(f"cannot take {other} from {self}: not enough {name}")
        if not (other.ranges or other.sets):
            return Resources(scalars, self.ranges, self.sets)
        if not self.covers(other):
            raise BadResources(f"cannot take {other} from {self}")
        spans = {name: rng.subtract(mine, other.ranges.get(name, [])) for name, mine in self.ranges.items()}
        sets = {name: sorted(set(mine) - set(other.sets.get(name, ()))) for name, mine in self.sets.items()}
        return Resources(
            scalars,
            {name: left for name, left in spans.items() if left},
            {name: left for name, left in sets.items() if left},
        )

    # -- showing ----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        parts = [f"{name}={format_scalar(name, amount)}" for name, amount in self.scalars.items()]
        parts += [f"{name}={rng.format(spans)}" for name, spans in self.ranges.items()]
        parts += [f"{name}={{{','.join(words)}}}" for name, words in self.sets.items()]
        return ",".join(parts) or "nothing"


NOTHING = Resources()


def total(amounts: Iterable[Resources]) -> Resources:
    """The sum. It is made in one dictionary for all scalars, not in one object for each sum."""
    scalars: dict[str, int] = {}
    rest = NOTHING
    for amount in amounts:
        for name, quantity in amount.scalars.items():
            scalars[name] = min(scalars.get(name, 0) + quantity, MAX_QUANTITY)
        if amount.ranges or amount.sets:
            rest = rest + Resources({}, amount.ranges, amount.sets)
    return Resources(scalars, rest.ranges, rest.sets)


def parse_scalar(name: str, text: str, *, bare_bytes: bool = False) -> int:
    """One amount in people's units, exactly: thousandths (`0.5` -> 500), or bytes (`8G`) for `mem` and `disk`.

    Raises `BadResources` if it is not a number, negative, finer than a thousandth, or in bytes without a unit (unless
    `bare_bytes`: programs count in bytes, people forget the M).
    """
    if (meant := _MISSPELT.get(name)) is not None:
        raise BadResources(f"resources: no slave has {name}; write {meant}={text}")
    if name in BYTE_SCALARS:
        match = _BYTES.match(text)
        if match is None:
            raise BadResources(f"resources: {name}={text} is not an amount of bytes; write it as 512M or 8G")
        number, unit = Decimal(match[1]), match[2].upper()
        if not unit and number and not bare_bytes and not text.upper().endswith("B"):
            raise BadResources(f"resources: {name}={text} has no unit; write {text}M or {text}G")
        exact = number * UNITS[unit]
    else:
        try:
            exact = Decimal(text) * 1000
        except InvalidOperation:
            raise BadResources(
                f"resources: {name}={text} is not a number; write it as {name}=4 or {name}=0.5"
            ) from None
        if not exact.is_finite() or exact < 0:
            raise BadResources(f"resources: {name}={text} must be a number, zero or more")
        if exact != exact.to_integral_value():
            raise BadResources(f"resources: {name}={text} is finer than a thousandth; round it")
    if exact > MAX_QUANTITY:
        raise BadResources(f"resources: {name}={text} is too much to count")
    return int(exact)


def format_scalar(name: str, amount: int) -> str:
    """The shortest exact text that `parse_scalar` reads back: `8G`, `1.5`, `0.02`."""
    if name not in BYTE_SCALARS:
        return f"{Decimal(amount) / 1000:f}"
    for unit in ("P", "T", "G", "M", "K"):
        if amount % UNITS[unit] == 0:
            return f"{amount // UNITS[unit]}{unit}"
    return f"{amount}B"


def _split(text: str) -> list[str]:
    """Split at commas outside brackets; blank parts are skipped."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        if letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _parse_set(name: str, text: str) -> list[str]:
    if not text.endswith("}"):
        raise BadResources(f"resources: {name}={text} is not a set; write it as {name}={{a,b}}")
    words = {word.strip() for word in text[1:-1].split(",")} - {""}
    for word in words:
        if not re.fullmatch(r"[\w./:-]+", word):
            raise BadResources(
                f"resources: {name}: {word!r} cannot be a member of a set; use letters and digits"
            )
    return sorted(words)


def _merge(
    mine: Mapping[str, list[T]], theirs: Mapping[str, list[T]], join: Callable[[list[T], list[T]], list[T]]
) -> dict[str, list[T]]:
    merged = dict(mine)
    for name, members in theirs.items():
        merged[name] = join(merged[name], members) if name in merged else members
    return merged
