"""Texts for jobs: generated from a seed by Zipf's law, as words of a language are, and real ones."""

from __future__ import annotations

import random
import sysconfig
from itertools import accumulate
from pathlib import Path

WORDS_A_LINE = 12


def generate(path: Path, size_bytes: int, seed: int = 1, vocabulary: int = 30_000) -> Path:
    """Write lines of words until the file has `size_bytes`."""
    fate = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(fate.choices(letters, k=fate.randint(2, 10))) for _ in range(vocabulary)]
    weights = list(accumulate(1 / (rank + 1) for rank in range(vocabulary)))
    written = 0
    with path.open("w") as file:
        while written < size_bytes:
            drawn = fate.choices(words, cum_weights=weights, k=WORDS_A_LINE * 1000)
            lines = (" ".join(drawn[at : at + WORDS_A_LINE]) for at in range(0, len(drawn), WORDS_A_LINE))
            written += file.write("\n".join(lines) + "\n")
    return path


def real_texts() -> list[Path]:
    """The sources of Python's standard library packages `email` and `json`: some hundred kilobytes of real text."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for package in ("email", "json") for path in (library / package).glob("*.py"))
