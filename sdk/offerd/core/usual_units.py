"""Amounts of resources as programs outside offerd read them: `cpus` in cpus, `mem` and `disk` in bytes.

Ranges are `[[first, last]]`, and sets are lists. So they stand in what `--json` prints, in the HTTP API and in metrics.
"""

from __future__ import annotations

from collections.abc import Mapping

from offerd.resources import BYTE_SCALARS, Resources


def usual_amount(name: str, amount: int) -> int | float:
    """One amount: bytes unchanged, thousandths as a decimal number."""
    return amount if name in BYTE_SCALARS else amount / 1000


def usual_amounts(amounts: Mapping[str, int]) -> dict[str, int | float]:
    """Amounts of scalars, by name."""
    return {name: usual_amount(name, amount) for name, amount in amounts.items()}


def usual_resources(resources: Resources) -> dict[str, object]:
    """All kinds, by name."""
    document: dict[str, object] = dict(usual_amounts(resources.scalars))
    document.update({name: [list(span) for span in spans] for name, spans in resources.ranges.items()})
    document.update({name: list(words) for name, words in resources.sets.items()})
    return document
