"""Arithmetic on ranges of whole numbers: sorted lists of inclusive `(first, last)` pairs that do not touch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from offerd.errors import BadResources
from offerd.values.bounds import MAX_AMOUNT, Amount

Range = tuple[Amount, Amount]

_SPAN = re.compile(r"\s*([0-9]{1,18})\s*(?:-\s*([0-9]{1,18})\s*)?\Z")


def union(spans: Iterable[Range]) -> list[Range]:
    """These pairs in normal form: sorted, overlapping and touching ones joined. Raises `BadResources` on last < first."""
    joined: list[Range] = []
    for first, last in sorted(tuple(span) for span in spans):
        if last < first or first < 0:
            raise BadResources(f"{first}-{last} is not a range; write the smaller number first")
        if last > MAX_AMOUNT:
            raise BadResources(f"{first}-{last} is too large to count")
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def is_normal(spans: Iterable[Range]) -> bool:
    """Whether these pairs (at least one) are in normal form, as `union` returns them."""
    before = -2
    for first, last in spans:
        if last < first or first <= before + 1:
            return False
        before = last
    return 0 <= before <= MAX_AMOUNT


def size(spans: Iterable[Range]) -> int:
    """How many whole numbers the ranges hold."""
    return sum(last - first + 1 for first, last in spans)


def covers(spans: list[Range], wanted: list[Range]) -> bool:
    """Whether every number of `wanted` is in `spans`. Both must be in normal form: one pass over them is enough."""
    place = 0
    for a, b in wanted:
        while place < len(spans) and spans[place][1] < a:
            place += 1
        if place == len(spans) or spans[place][0] > a or spans[place][1] < b:
            return False
    return True


def subtract(spans: list[Range], taken: list[Range]) -> list[Range]:
    """The numbers of `spans` that are not in `taken`, both in normal form."""
    if not taken:
        return spans
    left: list[Range] = []
    place = 0
    for first, last in spans:
        while place < len(taken) and taken[place][1] < first:
            place += 1
        at = place
        while at < len(taken) and taken[at][0] <= last:
            a, b = taken[at]
            if first < a:
                left.append((first, a - 1))
            first = b + 1
            at += 1
        if first <= last:
            left.append((first, last))
        place = max(place, at - 1)  # the range just taken out may reach into the next span
    return left


def parse(name: str, text: str) -> list[Range]:
    """Read `[31000-32000,33000]`. Raises `BadResources`, naming the resource, on anything else."""
    if not text.endswith("]"):
        raise BadResources(f"resources: {name}={text} is not a range; write it as {name}=[31000-32000]")
    spans: list[Range] = []
    for part in text[1:-1].split(","):
        if not part.strip():
            continue
        match = _SPAN.match(part)
        if match is None:
            raise BadResources(
                f"resources: {name}={text}: {part.strip()!r} is not a range; write 31000-32000"
            )
        spans.append((int(match[1]), int(match[2] or match[1])))
    return union(spans)


def format(spans: Iterable[Range]) -> str:
    """Write ranges as `[31000-32000,33000]`."""
    return "[" + ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in spans) + "]"
