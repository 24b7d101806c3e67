"""Offers: which framework is offered what became free, and how an offer ends: used, declined, rescinded, timed out.

A slave is *dirty* when something became free on it or a framework may newly want it. A turn of allocation offers all that is
free on each dirty slave to the first framework, in the allocator's order, that wants offers, does not filter the slave and has
not refused as much of it. What that framework does not use makes the slave dirty again. A slave that nobody takes is *idle*. It
is looked at again when a framework's wishes change; and when a limit has room again, but then only for frameworks that the
limit held back. The rules that keep a slave from a framework are in `eligibility`.

A refusal binds until more can be offered than was refused (what is free, cut to the framework's limit). A refusal for no time
is paced: the same amount or less is offered again after `repeat_pace_s`, or scheduler and master would keep each other busy
with nothing. What an accept with tasks leaves is not paced, since each such round launches something. `SetNeedsOffers(True)`
ends paced refusals; `ReviveOffers` ends all refusals and a `SetNeedsOffers(False)`. Filters stay until they are set anew. If an
offer was open when `ReviveOffers` came, a later refusal of it counts as one for no time: another thread of the scheduler may
have sent it without knowing of the revival.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from offerd import messages as m
from offerd.core import slots
from offerd.core.filters import fault as filters_fault
from offerd.ids import FrameworkID, OfferID, SlaveID, owner_of
from offerd.resources import Resources
from offerd.wire.codec import encode_message
from offerd_master.allocation.entitlements import Entitlements
from offerd_master.core import eligibility, files
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Framework, OutstandingOffer, Refusal, Slave

MAX_REFUSE_S = 365 * 86_400.0
MAX_OFFERS_BYTES = 512 << 10
"""Approximate limit of one `ResourceOffers`; a frame holds twice that."""
_BYTES_PER_EXECUTOR_ID = 132
_BYTES_PER_RANGE = 20
_BYTES_PER_OFFER = 512


# -- Making offers ------------------------------------------------------------------------------------------------------


def allocate(c: Cluster, now: float) -> None:
    """One turn: offer what is free on dirty slaves. Slaves in their batch window stay dirty."""
    if now < c.hold_until:
        return
    entitlements = c.entitlements
    if not c.dirty and (entitlements is None or not entitlements.has_reopened):
        return
    if not c.wanting:
        c.idle.update(c.dirty)
        c.dirty.clear()
        return
    made: dict[FrameworkID, list[m.Offer]] = defaultdict(list)
    waiting: dict[SlaveID, Slave] = {}
    for slave_id, slave in c.dirty.items():
        if not slave.is_worth_offering():
            continue
        if slave.is_in_batch_window(now):
            waiting[slave_id] = slave
            continue
        framework = _taker(c, slave, now)
        while framework is not None:
            made[framework.framework_id].append(_make(c, framework, slave, now))
            # A limit may have cut the offer: the next framework is offered the rest.
            if entitlements is None or not slave.is_worth_offering():
                break
            framework = _taker(c, slave, now)
        else:
            c.idle[slave_id] = slave
    c.dirty = waiting
    if entitlements is not None and entitlements.has_reopened:
        _offer_idle(c, entitlements, made, now)
    for framework_id, offers in made.items():
        c.counts.offers_made += len(offers)
        _send(c, c.frameworks[framework_id], offers)


def _offer_idle(
    c: Cluster, entitlements: Entitlements, made: dict[FrameworkID, list[m.Offer]], now: float
) -> None:
    """Limits have room again: offer idle slaves to the frameworks that these held back, until they are held back again."""
    reopened = entitlements.pop_reopened()
    gone: list[Slave] = []
    for slave in c.idle.values():
        if not reopened:
            break
        among = reopened.get(slave.needs)
        if among is None:
            continue
        if slave.is_in_batch_window(now):
            gone.append(slave)
            c.dirty[slave.slave_id] = slave
            continue
        while slave.is_worth_offering() and (framework := _taker(c, slave, now, among)) is not None:
            made[framework.framework_id].append(_make(c, framework, slave, now))
        if not slave.is_worth_offering():
            gone.append(slave)
        among -= entitlements.held_back(slave.needs)
        if not among:
            del reopened[slave.needs]
    for slave in gone:
        del c.idle[slave.slave_id]


def next_allocation(c: Cluster) -> float | None:
    """When the first dirty slave leaves its batch window; for a new master, not before `hold_until` (`recovery`)."""
    first = min((slave.offer_again_at for slave in c.dirty.values()), default=None)
    return first if first is None else max(first, c.hold_until)


def _taker(
    c: Cluster, slave: Slave, now: float, among: AbstractSet[FrameworkID] | None = None
) -> Framework | None:
    """The first framework (of `among`, if given) that takes what is free on this slave."""
    wanting = c.wanting
    entitlements = c.entitlements
    held_back = entitlements.held_back(slave.needs) if entitlements is not None else ()
    free: Resources | None = None
    for framework_id in c.allocator.ranked():
        if framework_id in held_back or (among is not None and framework_id not in among):
            continue
        framework = wanting[framework_id]
        if entitlements is not None and not eligibility.has_room(c, framework, slave):
            entitlements.hold_back(framework_id, slave.needs)
            continue
        if framework.has_filters or slave.slave_id in framework.refusals:
            if free is None:
                free = slave.free.freeze()
            offerable = eligibility.cut_to_limit(c, framework, free)
            if eligibility.is_unwanted(framework, slave, offerable, now):
                if entitlements is not None and offerable is not free:
                    entitlements.note_cut(framework_id)
                continue
        return framework
    return None


def _make(c: Cluster, framework: Framework, slave: Slave, now: float) -> m.Offer:
    settings = c.settings
    framework_id = framework.framework_id
    total = slave.total
    room = c.entitlements.room(framework_id) if c.entitlements is not None else None
    resources = slave.free.take_all(total) if room is None else slave.free.take_up_to(room)
    offer_id = c.new_offer_id()
    offer = OutstandingOffer(offer_id, framework, slave, resources, now + settings.offer_timeout_s)
    c.offers[offer_id] = slave.offers[offer_id] = framework.offers[offer_id] = offer
    c.offer_order.append(offer)
    c.changes.touch(slave)
    slave.offer_again_at = now + settings.batch_window_s
    c.allocator.offer(framework_id, resources)
    info = slave.info
    long_left = slave.long_cap
    if resources is not total:
        long_left = slots.left(slave.long_used, long_left, resources.quantities())
    return m.Offer(
        offer_id,
        slave.slave_id,
        info.hostname,
        resources,
        long_left,
        info.short_limit_s,
        info.attributes,
        list(slave.executors.get(framework_id, ())) if slave.executors else [],
        info.files_address,
        files.access_of_framework(slave, framework_id),
    )


def _send(c: Cluster, framework: Framework, offers: list[m.Offer]) -> None:
    """Send the offers in one message, or in as few as fit into frames."""
    slaves = c.slaves
    batch: list[m.Offer] = []
    size = 0
    for offer in offers:
        estimate = _BYTES_PER_OFFER + slaves[offer.slave_id].info_bytes
        if offer.executor_ids:
            estimate += _BYTES_PER_EXECUTOR_ID * len(offer.executor_ids)
        if ranges := offer.resources.ranges:
            estimate += _BYTES_PER_RANGE * sum(map(len, ranges.values()))
        if batch and size + estimate > MAX_OFFERS_BYTES:
            c.send(framework.peer, m.ResourceOffers(batch))
            batch, size = [], 0
        batch.append(offer)
        size += estimate
    c.send(framework.peer, m.ResourceOffers(batch))


# -- Ends of offers -----------------------------------------------------------------------------------------------------


def remove(c: Cluster, offer: OutstandingOffer) -> None:
    """Close an offer. Its resources stay charged, and are not free yet: the caller decides where they go."""
    del c.offers[offer.offer_id]
    del offer.slave.offers[offer.offer_id]
    del offer.framework.offers[offer.offer_id]
    c.changes.touch(offer.slave)


def give_back(c: Cluster, framework: Framework, slave: Slave, resources: Resources) -> None:
    """Make free again what a removed offer held and nobody uses."""
    c.allocator.refund(framework.framework_id, resources)
    slave.free.give(resources, slave.total)
    c.mark_dirty(slave)


def rescind(c: Cluster, offers: Iterable[OutstandingOffer], *, notify: bool = True) -> None:
    """Take these offers back; `notify` their frameworks, unless the scheduler that knows of them is gone."""
    for offer in list(offers):
        c.counts.offers_rescinded += 1
        remove(c, offer)
        give_back(c, offer.framework, offer.slave, offer.resources)
        if notify:
            c.send(offer.framework.peer, m.RescindOffer(offer.offer_id))


def refuse(
    c: Cluster, framework: Framework, slave: Slave, resources: Resources, refuse_seconds: float, now: float
) -> None:
    """The framework does not want this much of the slave for a time. A time that is not a number, or negative, counts as 0."""
    paced = not refuse_seconds > 0
    duration = c.settings.repeat_pace_s if paced else min(refuse_seconds, MAX_REFUSE_S)
    until = now + duration
    before = framework.refusals.get(slave.slave_id)
    if before is not None:
        if before.until >= until and before.resources.covers(resources):
            return
        c.timers.cancel(before.timer)
    timer = c.timers.set(until, _refusal_over, (framework, slave.slave_id))
    framework.refusals[slave.slave_id] = Refusal(until, resources, paced, timer)


def forget_refusals(c: Cluster, framework: Framework, *, only_paced: bool = False) -> None:
    """Let the framework be offered these slaves again at once."""
    for slave_id, refusal in list(framework.refusals.items()):
        if refusal.paced or not only_paced:
            c.timers.cancel(refusal.timer)
            del framework.refusals[slave_id]


def _refusal_over(c: Cluster, subject: tuple[Framework, SlaveID], now: float) -> None:
    framework, slave_id = subject
    del framework.refusals[slave_id]
    slave = c.slaves.get(slave_id)
    if slave is not None and framework.framework_id in c.wanting:
        c.mark_dirty(slave)


def expire(c: Cluster, now: float) -> None:
    """Rescind offers that were not answered in time. They stand in the order of their deadlines; answered ones are skipped."""
    order = c.offer_order
    if len(order) > 2 * len(c.offers) + 1000:
        # A framework that answers slowly must not keep the answered offers of all others in memory.
        order = c.offer_order = deque(offer for offer in order if offer.offer_id in c.offers)
    while order:
        offer = order[0]
        if offer.offer_id in c.offers:
            if offer.deadline > now:
                return
            c.counts.offers_unanswered += 1
            c.log(f"framework {offer.framework.framework_id} did not answer offer {offer.offer_id} in time")
            rescind(c, [offer])
        order.popleft()


def next_expiry(c: Cluster) -> float | None:
    order = c.offer_order
    while order and order[0].offer_id not in c.offers:
        order.popleft()
    return order[0].deadline if order else None


# -- Messages of schedulers ---------------------------------------------------------------------------------------------


def decline_offers(c: Cluster, framework: Framework, message: m.DeclineOffers, now: float) -> None:
    """Offers that are no longer open are skipped: the answer has crossed a rescind."""
    decline(c, framework, message.offer_ids, message.refuse_seconds, now)


def decline(
    c: Cluster, framework: Framework, offer_ids: Iterable[OfferID], refuse_seconds: float, now: float
) -> None:
    refused: dict[SlaveID, tuple[Slave, Resources, float]] = {}
    for offer_id in offer_ids:
        offer = framework.offers.get(offer_id)
        if offer is None:
            continue
        c.counts.offers_declined += 1
        remove(c, offer)
        give_back(c, framework, offer.slave, offer.resources)
        amount, duration = offer.resources, 0.0 if offer.is_revived else refuse_seconds
        if (before := refused.get(offer.slave.slave_id)) is not None:
            amount, duration = before[1] + amount, min(before[2], duration)
        refused[offer.slave.slave_id] = (offer.slave, amount, duration)
    for slave, amount, duration in refused.values():
        refuse(c, framework, slave, amount, duration, now)


def set_needs_offers(c: Cluster, framework: Framework, message: m.SetNeedsOffers, now: float) -> None:
    if message.needs_offers == framework.needs_offers:
        return
    framework.needs_offers = message.needs_offers
    c.update_wanting(framework)
    if message.needs_offers:
        forget_refusals(c, framework, only_paced=True)
        c.mark_idle_dirty()


def set_filters(c: Cluster, framework: Framework, message: m.SetFilters, now: float) -> None:
    framework_id, before_bytes = framework.framework_id, framework.filters_bytes
    more_bytes = len(encode_message(message.filters)) - before_bytes
    fault = filters_fault(message.filters) or c.budgets.fault(
        c.settings, owner_of(framework_id), more_bytes, is_one_more=False
    )
    if not fault:
        framework.set_filters(message.filters)
        c.budgets.says_more(framework_id, framework.filters_bytes - before_bytes)
    elif framework.peer is not None:
        c.drop(framework.peer, fault)
    c.mark_idle_dirty()


def revive_offers(c: Cluster, framework: Framework, message: m.ReviveOffers, now: float) -> None:
    forget_refusals(c, framework)
    for offer in framework.offers.values():
        offer.is_revived = True
    framework.needs_offers = True
    c.update_wanting(framework)
    c.mark_idle_dirty()
