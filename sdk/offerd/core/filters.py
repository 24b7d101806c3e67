"""What a framework never wants to be offered (Mesos, NSDI 2011, section 3.5), made ready to be asked of many slaves.

Attribute constraints: that one exists, that it equals a text, or that it matches a pattern of the shell: `*`, `?`, `[ab]`,
`[!ab]`, whole value, case counts. Not regular expressions: the master evaluates them for strangers, and some take it hours.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from offerd.ids import SlaveID
from offerd.messages import Filters
from offerd.resources import Resources
from offerd.wire.screen_text import printable

MAX_PATTERNS = 64
MAX_PATTERN_LETTERS = 256


def fault(filters: Filters) -> str:
    """What makes these filters unusable, as a line for people; empty if they are good."""
    patterns = filters.attributes_match
    if len(patterns) > MAX_PATTERNS:
        return f"filters with {len(patterns)} patterns; at most {MAX_PATTERNS} are evaluated"
    for name, pattern in patterns.items():
        if len(pattern) > MAX_PATTERN_LETTERS:
            return f"the pattern for attribute {printable(name, 64)} is longer than {MAX_PATTERN_LETTERS} letters"
    return ""


class CompiledFilters:
    """`Filters`, which must be without `fault`, and the questions asked of them."""

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
        """Whether the slave as such is wanted, whatever is free on it."""
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
        """Whether enough is free."""
        return free.covers(self.filters.minimum)
