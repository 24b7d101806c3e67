"""Half a minute of `make chaos`."""

from __future__ import annotations

import os

import pytest

from chaos.__main__ import run
from helpers.ensemble import needs_zookeeper

pytestmark = [needs_zookeeper, pytest.mark.timeout(240)]


def test_ledger_balances_after_half_a_minute_of_random_faults() -> None:
    seed = int(os.environ.get("OFFERD_CHAOS_SEED", "20"))
    assert run(seed, 30.0, 600, quiet=True), f"seed {seed}: see what was printed"
