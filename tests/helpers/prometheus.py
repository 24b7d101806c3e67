"""Reads expositions in the text format of Prometheus, and has Prometheus' own checker judge them."""

from __future__ import annotations

import shutil
import subprocess
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from helpers.documents import ROOT


class Described(NamedTuple):
    """One metric, as docs/metrics.md lists it."""

    name: str
    """With the `_total` of a counter, and without the suffixes of a histogram's series."""
    kind: str
    labels: frozenset[str]


class Exposition:
    """What one scrape has brought. Raises `AssertionError` if two series are the same, which Prometheus would refuse."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.described: set[Described] = set()
        for family in text_string_to_metric_families(text.decode()):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels if label != "le"}
            self.described.add(Described(name, family.type, frozenset(labels)))
            assert family.documentation, f"{family.name} has no text"
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.values, f"twice: {key}"
                self.values[key] = sample.value

    def value(self, name: str, /, **labels: str) -> float:
        """Of the series with exactly these labels."""
        return self.values[name, frozenset(labels.items())]

    def series(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Labels to value, of all series of this name."""
        return {labels: value for (mine, labels), value in self.values.items() if mine == name}


def promtool(*arguments: str, stdin: bytes = b"", fails: bool = False) -> str:
    """What Debian's promtool says. Skips the test where it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool (apt-get install prometheus)")
    made = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, timeout=60, check=False, cwd=ROOT
    )
    said = (made.stdout + made.stderr).decode()
    assert (made.returncode != 0) is fails, said
    return said
