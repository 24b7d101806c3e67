"""The complete `offerd demo`, which newcomers type first."""

from __future__ import annotations

import pytest

from helpers.cli import offerd
from helpers.mpi import need_mpich


@pytest.mark.slow
def test_the_demo_counts_the_same_three_times_and_leaves_nothing() -> None:
    need_mpich()
    done = offerd(None, "demo", timeout_s=180)
    text = done.stdout.decode()
    assert done.returncode == 0, text + done.stderr.decode()
    assert text.count("✓ the same count, word for word") == 2
    assert "one process is faster with so little text" in " ".join(text.split())
    assert "✓ the same plate as by one process" in text
    assert "isolation       " in text
    assert all(f"slave-{number} " in text for number in (1, 2, 3))
    assert "CPUS HELD OVER TIME" in text
    assert "maps read their block in place" in text
    assert "no process and no file is left" in text
    assert "\x1b" not in text


def test_a_demo_that_cannot_start_says_why_in_one_line() -> None:
    done = offerd(None, "demo", "--isolation", "bubble-wrap")
    assert done.returncode == 2
    assert b"bubble-wrap" in done.stderr
    assert done.stderr.count(b"\n") == 1
