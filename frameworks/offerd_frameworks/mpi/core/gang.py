"""Decides whether the offers at hand hold a whole gang, and which slave gets how many ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import offerd
from offerd import OfferID, SlaveID
from offerd_frameworks.mpi.core.job import Job


class Share(NamedTuple):
    """A job's part on one slave. `host` is the slave's address."""

    slave_id: SlaveID
    hostname: str
    host: str
    ranks: int
    offer_ids: tuple[OfferID, ...]


class Gang(NamedTuple):
    """The best gang that the offers allow: complete if `missing` is 0. Its shares are worth holding in any case."""

    shares: tuple[Share, ...]
    missing: int


def room(job: Job, offers: list[offerd.Offer]) -> int:
    """How many ranks of the job these offers, all of one slave, hold.

    Tasks without a limit, or with one above the slave's short limit, may only use the slave's part for long tasks. Of several
    offers the largest such part counts: each says what was left when it was made, so they must not be added.
    """
    free = offers[0].resources
    for offer in offers[1:]:
        free = free + offer.resources
    amounts = [(name, amount) for name, amount in job.need.scalars.items() if amount]
    ranks = min(free.scalars.get(name, 0) // amount for name, amount in amounts)
    if job.time_limit_s is None or job.time_limit_s > offers[0].short_limit_s:
        for name, amount in amounts:
            ranks = min(ranks, max(offer.long_quantities.get(name, 0) for offer in offers) // amount)
    return ranks if job.per_slave is None else min(ranks, job.per_slave)


def is_of_use(job: Job, offer: offerd.Offer) -> bool:
    """Whether it has some of everything that a rank needs. A part of a rank's cpus is held, as more may come."""
    is_long = job.time_limit_s is None or job.time_limit_s > offer.short_limit_s
    return all(
        offer.resources.scalars.get(name, 0) > 0 and not (is_long and offer.long_quantities.get(name, 0) <= 0)
        for name in job.need.scalars
    )


def superfluous(job: Job, offers: Iterable[offerd.Offer]) -> list[OfferID]:
    """Offers that are not needed, as their slaves have room for all the ranks that they may get without them. While they are
    held they count as this framework's share, and a framework with its full share is not offered the slave that is missing.
    """
    found = []
    for group in _by_slave(offers):
        kept: list[offerd.Offer] = []
        for offer in group:
            if kept and job.per_slave is not None and room(job, kept) >= job.per_slave:
                found.append(offer.offer_id)
            else:
                kept.append(offer)
    return found


def assemble(job: Job, offers: Iterable[offerd.Offer]) -> Gang:
    """Fill the slaves with most room first: few slaves communicate faster, and whole slaves are left for others."""
    rooms = [(room(job, group), group) for group in _by_slave(offers)]
    rooms.sort(key=lambda pair: (-pair[0], pair[1][0].hostname, pair[1][0].slave_id))
    missing = job.ranks
    shares = []
    for ranks, group in rooms:
        taken = min(ranks, missing)
        if taken > 0:
            first = group[0]
            offer_ids = tuple(offer.offer_id for offer in group)
            host = offerd.host_of(first.files_address)
            shares.append(Share(first.slave_id, first.hostname, host, taken, offer_ids))
            missing -= taken
    return Gang(tuple(shares), missing)


def _by_slave(offers: Iterable[offerd.Offer]) -> list[list[offerd.Offer]]:
    groups: dict[SlaveID, list[offerd.Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.slave_id, []).append(offer)
    return list(groups.values())
