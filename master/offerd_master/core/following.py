"""Followers: those who ask what has changed, again and again (`offerd.protocol.change_messages`).

A question waits here until there is something to answer. It is answered at the end of a turn, and no more than twenty times a
second, so that what changes together is sent together; how much one tick answers is bounded, as all else waits meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import cast

import msgspec

from offerd import __version__
from offerd import operator_messages as om
from offerd.ids import FrameworkID, PeerID, SlaveID, TaskID
from offerd.messages import FrameworkInfo, SlaveInfo
from offerd.protocol import change_messages as em
from offerd.resources import Resources
from offerd.wire.codec import encode_message
from offerd_master.core.caller import Caller
from offerd_master.core.change_index import Described, GoneTask, Question, SeenFramework
from offerd_master.core.cluster import Cluster
from offerd_master.core.history import MAX_TEXT
from offerd_master.core.pool import cut, cut_quantities
from offerd_master.core.state import Framework, Slave, Task

PACE_S = 0.05
"""The shortest time between a question and its answer, unless the answer before was full."""
MAX_FOLLOWERS = 64
FORGET_S = 60.0
"""Changes are counted for so long after the last question."""
SCAN_S = 0.2
FRAMEWORKS_A_SECOND = 5_000
"""Frameworks are looked at for changes after `SCAN_S`, or more seldom where they are more than that allows."""
PAGE_BYTES = 512 << 10
MAX_PAGE = 1000
RECORD_BYTES = 300
"""About how long a task is without its texts, and without ranges and sets."""
TICK_BYTES = 2 << 20
"""Of answers, in one tick."""
MAX_LISTED = 1000
"""Executors and offers in one `SlaveNow`."""
MAX_SLAVE_BYTES = 256 << 10
"""A slave whose executors and offers are longer is sent without them."""


class GoneSlave(msgspec.Struct, frozen=True):
    """A slave that is not remembered any more."""

    slave_id: SlaveID


class GoneFramework(msgspec.Struct, frozen=True):
    """The same of a framework."""

    framework_id: FrameworkID


# -- Questions ----------------------------------------------------------------------------------------------------------


def follow_changes(c: Cluster, caller: Caller, message: em.FollowChanges, now: float) -> None:
    """Answered by `Changes`, in a tick."""
    questions = c.changes.followers.questions
    questions.pop(caller.peer, None)
    if len(questions) >= MAX_FOLLOWERS:
        c.send(caller.peer, om.NotAuthorized(f"{MAX_FOLLOWERS} others follow this master already"))
        return
    note_follower(c, now)
    wait_s = min(max(message.wait_s, 0.0), em.MAX_WAIT_S)
    limit = max(1, min(message.limit, MAX_PAGE))
    question = Question(
        caller, message.origin, message.after, message.ended_after, limit, now + PACE_S, now + wait_s
    )
    if _must_reset(c, question) or _is_far_behind(c, question):
        question = question._replace(not_before=now)
    questions[caller.peer] = question


def leave(c: Cluster, peer: PeerID) -> None:
    """Whoever asked has gone."""
    c.changes.followers.questions.pop(peer, None)


def note_follower(c: Cluster, now: float) -> None:
    """Somebody follows: from now on changes are counted. To begin with, everything there is counts as changed."""
    index = c.changes
    index.followers.asked_at = now
    if index.is_on:
        return
    index.begin()
    c.changes.followers.frameworks.clear()
    c.changes.followers.scan_at = 0.0
    for slave in (*c.lost_slaves.values(), *c.slaves.values()):
        index.touch(Described(slave))
        index.touch(slave)
    frameworks = (*c.ended_frameworks.values(), *c.frameworks.values())
    for record in heapq.merge(
        *(one.history.records for one in frameworks), key=lambda record: record.ended_at
    ):
        index.add_past_end(record)
    for framework in frameworks:
        for task in (*framework.tasks.values(), *framework.unreachable.values()):
            index.touch(task)


def _origin(c: Cluster) -> str:
    return f"{c.master_id}/{c.changes.generation}"


def _is_ours(c: Cluster, question: Question) -> bool:
    """Whether its numbers are of this counting."""
    index = c.changes
    is_possible = question.after <= index.number and question.ended_after <= index.ended_count
    return is_possible and question.origin == _origin(c)


def _must_reset(c: Cluster, question: Question) -> bool:
    return not _is_ours(c, question) or question.after < c.changes.floor


def _is_far_behind(c: Cluster, question: Question) -> bool:
    index = c.changes
    return (
        index.number - question.after > question.limit
        or index.ended_count - question.ended_after > question.limit
    )


def _is_pending(c: Cluster, question: Question) -> bool:
    index = c.changes
    is_behind = index.number > question.after or index.ended_count > question.ended_after
    return is_behind or index.is_unsettled or _must_reset(c, question)


def forget_slave(c: Cluster, slave: Slave) -> None:
    """It is not even remembered as lost any more."""
    c.changes.remove(Described(slave), None)
    c.changes.remove(slave, GoneSlave(slave.slave_id))


# -- Answers ------------------------------------------------------------------------------------------------------------


def answer(c: Cluster, now: float) -> None:
    """Answer the questions whose time has come. The rest waits for the next tick where the answers become too long."""
    followers = c.changes.followers
    if not followers.questions:
        if c.changes.is_on and now >= followers.asked_at + FORGET_S:
            c.changes.stop()
            followers.frameworks.clear()
        return
    if now >= followers.scan_at:
        scan_frameworks(c)
        seen = len(followers.frameworks)
        followers.scan_at = now + max(SCAN_S, seen / FRAMEWORKS_A_SECOND)
    followers.count = len(followers.questions)
    room = TICK_BYTES
    for peer, question in list(followers.questions.items()):
        is_time = now >= question.until or (now >= question.not_before and _is_pending(c, question))
        if not is_time:
            continue
        del followers.questions[peer]
        page = _Page(c, question.caller, question.limit)
        c.send(peer, page.fill(question, now))
        room -= page.size
        if room <= 0:
            return


def next_answer(c: Cluster) -> float | None:
    """When `answer` has something to do."""
    followers = c.changes.followers
    if not followers.questions:
        return followers.asked_at + FORGET_S if c.changes.is_on else None
    first = min(
        min(question.until, question.not_before) if _is_pending(c, question) else question.until
        for question in followers.questions.values()
    )
    return min(first, followers.scan_at)


def changes_since(c: Cluster, caller: Caller, message: em.FollowChanges, now: float) -> em.Changes:
    """The answer to a question as it would be at this moment. Changes must be counted (`note_follower`)."""
    question = Question(
        caller,
        message.origin,
        message.after,
        message.ended_after,
        max(1, min(message.limit, MAX_PAGE)),
        now,
        now,
    )
    return _Page(c, caller, question.limit).fill(question, now)


def scan_frameworks(c: Cluster) -> None:
    """Frameworks change in many ways, and are few: they are compared with what was seen before."""
    seen = c.changes.followers.frameworks
    there = (*c.ended_frameworks.values(), *c.frameworks.values())
    for framework in there:
        is_now, info = framework_now(c, framework), framework.launch_info
        before = seen.get(framework.framework_id)
        if before is not None and before.now == is_now and before.info is info:
            continue
        if before is None or before.info is not info:
            c.changes.touch(Described(framework))
        c.changes.touch(framework)
        seen[framework.framework_id] = SeenFramework(framework, is_now, info)
    if len(seen) > len(there):
        for framework_id in sorted(seen.keys() - {framework.framework_id for framework in there}):
            gone = cast("Framework", seen.pop(framework_id).framework)
            # Its name may have been sent before it was looked at for the first time.
            for thing in (Described(gone), gone):
                c.changes.remove(thing, GoneFramework(framework_id))


class _Page:
    """One answer as it grows, until it has as many entries or bytes as it may."""

    def __init__(self, c: Cluster, caller: Caller, limit: int) -> None:
        self.c = c
        self.caller = caller
        self.room = limit
        self.size = 0
        self.slave_infos: list[SlaveInfo] = []
        self.slaves: list[em.SlaveNow] = []
        self.framework_infos: list[FrameworkInfo] = []
        self.frameworks: list[em.FrameworkNow] = []
        self.tasks: list[em.TaskNow] = []
        self.forgotten_slaves: list[SlaveID] = []
        self.forgotten_frameworks: list[FrameworkID] = []
        self.forgotten_tasks: list[tuple[FrameworkID, TaskID, float]] = []

    def fill(self, question: Question, now: float) -> em.Changes:
        """The answer. Ends are half of a page, where there is more: however many end, the rest is not held up."""
        c, index = self.c, self.c.changes
        index.settle()
        is_reset, is_ours = _must_reset(c, question), _is_ours(c, question)
        after = 0 if is_reset else question.after
        most = self.room if after == index.number else (self.room + 1) // 2
        ends, first = index.ended_since(question.ended_after if is_ours else 0, most)
        missed = first - question.ended_after if is_ours else 0
        ended, ended_after = self._ended(
            ends, first, PAGE_BYTES if after == index.number else PAGE_BYTES // 2
        )
        after = self._changed(after)
        return em.Changes(
            _origin(c),
            after,
            ended_after,
            now,
            _master_now(c),
            is_reset,
            after < index.number or ended_after < index.ended_count,
            missed,
            ended,
            self.forgotten_slaves,
            self.forgotten_frameworks,
            self.forgotten_tasks,
            self.slave_infos,
            self.slaves,
            self.framework_infos,
            self.frameworks,
            self.tasks,
            self.caller.shown_owner,
        )

    def _ended(
        self, records: list[em.EndedTask], count: int, most_bytes: int
    ) -> tuple[list[em.EndedTask], int]:
        if self.caller.is_operator and not any(
            record.resources.ranges or record.resources.sets for record in records
        ):
            # Thousands a second may end, and nearly all are like this.
            size = RECORD_BYTES * len(records) + sum(
                len(record.name) + len(record.message) for record in records
            )
            if size <= most_bytes:
                self.room -= len(records)
                self.size += size
                return records, count + len(records)
        found = []
        for record in records:
            if self.size > most_bytes:
                break
            count += 1
            if self.caller.sees(record.framework_id):
                found.append(record)
                self._grow(_task_bytes(record))
        return found, count

    def _changed(self, after: int) -> int:
        """Returns the number up to which all is in the answer."""
        for thing, number in self.c.changes.since(after):
            if self.room <= 0 or self.size > PAGE_BYTES:
                return after
            self._add(thing)
            after = number
        return self.c.changes.number

    def _add(self, thing: Hashable) -> None:
        c, sees = self.c, self.caller.sees
        match thing:
            case Task() as task:
                if sees(task.framework.framework_id):
                    self.tasks.append(task_now(task))
                    self._grow(_task_bytes(self.tasks[-1]))
            case Slave() as slave:
                is_now, size = _bounded(slave_now(c, self.caller, slave))
                self.slaves.append(is_now)
                self._grow(size)
            case Framework() as framework:
                if sees(framework.framework_id):
                    self.frameworks.append(framework_now(c, framework))
                    self._grow(len(encode_message(self.frameworks[-1])))
            case Described(Slave() as slave):
                self.slave_infos.append(slave.info)
                self._grow(slave.info_bytes)
            case Described(Framework() as framework):
                if sees(framework.framework_id):
                    self.framework_infos.append(framework.launch_info)
                    self._grow(len(encode_message(framework.launch_info)))
            case GoneSlave(slave_id):
                self.forgotten_slaves.append(slave_id)
                self._grow(len(slave_id))
            case GoneFramework(framework_id):
                self.forgotten_frameworks.append(framework_id)
                self._grow(len(framework_id))
            case GoneTask(framework_id, task_id, launched_at):
                if sees(framework_id):
                    self.forgotten_tasks.append((framework_id, task_id, launched_at))
                    self._grow(len(framework_id) + len(task_id))

    def _grow(self, size: int) -> None:
        self.room -= 1
        self.size += size + 16


# -- Things as they are -------------------------------------------------------------------------------------------------


def slave_now(c: Cluster, caller: Caller, slave: Slave) -> em.SlaveNow:
    """As the caller may see it."""
    usage = slave.usage
    return em.SlaveNow(
        slave.slave_id,
        slave.state.value,
        slave.there_since,
        slave.peer is not None,
        cut(slave.free.freeze()),
        cut_quantities(slave.long_used),
        [
            em.ExecutorNow(framework_id, executor_id, cut(executor.resources), executor.user[:MAX_TEXT])
            for framework_id, mine in slave.executors.items()
            if caller.sees(framework_id)
            for executor_id, executor in mine.items()
        ][:MAX_LISTED],
        [
            em.OfferNow(offer.offer_id, offer.framework.framework_id, cut(offer.resources), offer.deadline)
            for offer in slave.offers.values()
            if caller.sees(offer.framework.framework_id)
        ][:MAX_LISTED],
        usage.millicpus if usage is not None else 0,
        usage.mem_bytes if usage is not None else 0,
        slave.is_disk_full,
    )


def framework_now(c: Cluster, framework: Framework) -> em.FrameworkNow:
    """What has to be counted through tasks and slaves is left to the follower, who has them."""
    framework_id = framework.framework_id
    is_open = framework_id in c.frameworks
    guaranteed = c.entitlements.guaranteed(framework_id) if c.entitlements is not None and is_open else {}
    there = "active" if framework.peer is not None else "disconnected"
    return em.FrameworkNow(
        framework_id,
        "ended" if framework.ended else there,
        framework.since,
        framework.needs_offers,
        c.allocator.share(framework_id) if is_open else 0.0,
        Resources(cut_quantities(guaranteed)),
        c.under_share_since.get(framework_id),
        (framework.peer is not None) + len(framework.standbys),
        dict(framework.ended_counts),
        dict(framework.wasted_resource_s),
        framework.ramp_up_s,
        framework.ended_at if framework.ended else None,
    )


def task_now(task: Task) -> em.TaskNow:
    return em.TaskNow(
        task.task_id,
        task.framework.framework_id,
        task.slave.slave_id,
        task.executor_id,
        task.state,
        task.name,
        task.resources,
        task.time_limit_s,
        task.is_long,
        task.launched_at,
        task.running_since,
        task.container_id,
        task.is_command,
        task.kill is not None,
        task.message,
    )


def _master_now(c: Cluster) -> em.MasterNow:
    measured = c.measured
    return em.MasterNow(
        c.master_id,
        __version__,
        c.settings.allocator,
        c.started_at,
        dict(c.ended_counts),
        dict(c.wasted_resource_s),
        c.dropped_peers,
        c.refused,
        c.failed_messages,
        c.unsent_messages,
        c.epoch,
        {**c.counts.tallies(), **measured.counts},
        {
            "followers": c.changes.followers.count,
            "offers": len(c.offers),
            "peers": len(c.peers),
            "dirty_slaves": len(c.dirty),
            "idle_slaves": len(c.idle),
            **measured.gauges,
        },
        measured.timings,
    )


def _task_bytes(task: em.TaskNow | em.EndedTask) -> int:
    """About how long it is. It need not be exact: a page is a small part of what a frame may hold."""
    resources = task.resources
    size = RECORD_BYTES + len(task.name) + len(task.message)
    if resources.ranges or resources.sets:
        size += len(encode_message(resources))
    return size


def _bounded(slave: em.SlaveNow) -> tuple[em.SlaveNow, int]:
    """The slave, cut if no frame could hold it, and about how long it is."""
    if not slave.executors and not slave.free.ranges and not slave.free.sets and len(slave.offers) < 2:
        return slave, 300
    size = len(encode_message(slave))
    if size > MAX_SLAVE_BYTES:
        slave = msgspec.structs.replace(slave, executors=[], offers=[])
        size = len(encode_message(slave))
    return slave, size
