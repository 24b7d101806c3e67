"""What a framework never wants to be offered (Mesos, NSDI 2011, section 3.5), prepared for checking many slaves.

An attribute constraint says that an attribute exists, equals a text, or matches a shell pattern: `*`, `?`, `[ab]`, `[!ab]`, on
the whole value, in which case counts. There are no regular expressions: a stranger's could keep the master busy for hours.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from offerd.ids import SlaveID
from offerd.messages import Filters
from offerd.resources import Resources
from offerd.values.screen_text import printable

MAX_PATTERNS = 64
MAX_PATTERN_LETTERS = 256


def fault(filters: Filters) -> str:
    """What makes these filters unusable, as a line for people; empty if they can be used."""
    patterns = filters.attributes_match
    if len(patterns) > MAX_PATTERNS:
        return f"filters with {len(patterns)} patterns; at most {MAX_PATTERNS} are evaluated"
    for name, pattern in patterns.items():
        if len(pattern) > MAX_PATTERN_LETTERS:
            return f"the pattern for attribute {printable(name, 64)} is longer than {MAX_PATTERN_LETTERS} letters"
    return ""


class CompiledFilters:
    """Checks slaves and their free resources against `Filters`, which must have no `fault`."""

    __slots__ = ("_exist", "_patterns", "_slave_ids", "filters", "is_empty")

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.is_empty = filters == Filters()
        self._slave_ids = frozenset(filters.slave_ids)
        self._exist = frozenset(filters.attributes_exist)
        self._patterns = [
            (name, re.compile(fnmatch.translate(pattern)))
            for name, pattern in filters.attributes_match.items()
        ]

    def pass_slave(self, slave_id: SlaveID, attributes: Mapping[str, str]) -> bool:
        """Whether the framework wants this slave, whatever is free on it."""
        if self._slave_ids and slave_id not in self._slave_ids:
            return False
        if not self._exist <= attributes.keys():
            return False
        if any(attributes.get(name) != value for name, value in self.filters.attributes.items()):
            return False
        return all(
            name in attributes and pattern.match(attributes[name]) is not None
            for name, pattern in self._patterns
        )

    def pass_free(self, free: Resources) -> bool:
        """Whether enough is free for the framework."""
        return free.covers(self.filters.minimum)
