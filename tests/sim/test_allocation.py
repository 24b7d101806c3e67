"""Clusters with guarantees, limits, priorities, lotteries and changeable frameworks, each from one seed, under faults.

The invariants hold all the time; a framework at or under its guarantee loses nothing; every task ends once. OFFERD_SIM_SEEDS is
the number of seeds: 1,000 in `make test`, 20,000 in `make test-nightly`.
"""

from __future__ import annotations

import os
import random

import pytest

from helpers.sim_cluster import Rules, World
from helpers.sim_runs import check, settle, under_faults
from offerd.resources import Resources
from offerd_master.allocation.drf import DrfAllocator
from offerd_master.allocation.lottery import LotteryAllocator
from offerd_master.allocation.policy import Policy, Terms
from offerd_master.allocation.priority import PriorityAllocator
from offerd_master.settings import MasterSettings

SEEDS = int(os.environ.get("OFFERD_SIM_SEEDS", "100"))
CHUNK = 50
"""Seeds of one test. About every sixth cluster revokes something, so among this many one certainly does."""
MODULES: tuple[type[DrfAllocator | PriorityAllocator], ...] = (
    DrfAllocator,
    DrfAllocator,
    PriorityAllocator,
    LotteryAllocator,
)
CHECKED_OFTEN = 10
"""One in this many seeds is checked after every message, the others only now and then."""


def rules(seed: int) -> Rules:
    """A random policy, and times short enough for revocations to happen and to be overtaken."""
    chance = random.Random(f"rules {seed}")
    roles = ("a", "a/inner", "b")
    terms = {}
    for role in roles:
        cpus = chance.choice([0, 0, 1, 2, 4]) if role != "a" else chance.choice([0, 4, 6])
        terms[role] = Terms(
            weight=chance.choice([0.5, 1.0, 3.0]),
            priority=chance.choice([None, 0, 5]),
            guarantee=Resources.of(cpus=cpus, mem=chance.choice(["0M", f"{cpus}G"])),
            limit=chance.choice([None, None, Resources.of(cpus=6)]),
        )
    if any(
        amount > terms["a"].guarantee.scalars.get(name, amount)
        for name, amount in terms["a/inner"].guarantee.scalars.items()
    ):
        terms["a/inner"] = Terms()
    settings = MasterSettings(
        adoption_grace_s=30.0,
        offer_timeout_s=chance.choice([2.0, 30.0]),
        policy=Policy(
            terms, {"framework1": Terms(weight=2.0, guarantee=Resources.of(cpus=chance.choice([0, 1])))}
        ),
        revoke_after_s=chance.choice([0.0, 0.7, 3.0]),
        revoke_grace_s=chance.choice([0.0, 0.5, 4.0]),
    )
    return Rules(
        module=chance.choice(MODULES),
        settings=settings,
        roles=roles,
        minimum_offers=(None, Resources.of(cpus="0.5"), Resources.of(cpus=1, mem="64M")),
        durations_s=(0.01, 0.5, 3.0, 20.0),
        has_whims=True,
    )


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_under_faults_accounts_guarantees_and_ends_hold(first: int) -> None:
    revoked = 0
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world = World(
            seed, slaves=3, schedulers=3, tasks=10, rules=rules(seed), checks_often=not seed % CHECKED_OFTEN
        )
        with under_faults(world, seed):
            settle(world)
        check(world, seed)
        revoked += world.revoked
    assert revoked, "none of these clusters has revoked anything: this test has become too tame"
