"""Makes batches for the history of a master's answers.

Ends of tasks come first, those of a first answer before anything about their frameworks. So tasks of frameworks that nothing is
known of wait for the last part of that answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import msgspec

from offerd.ids import FrameworkID, SlaveID
from offerd.protocol.change_messages import Changes, EndedTask, FrameworkNow, SlaveNow
from offerd.states import TaskState
from offerd_web.core.view import NO_TALLY, ClusterView
from offerd_web.history.batch import (
    Batch,
    FrameworkNames,
    PastFramework,
    ShareSample,
    SlaveChange,
    UtilizationSample,
)

SAMPLE_S = 10.0
"""Time between two samples of shares and utilization, and between two writes of a framework's counts."""
MAX_SHARES = 200
"""Frameworks in one sample, those with the largest shares."""
MAX_HELD = 20_000
"""Tasks that wait for the names of their frameworks. A master remembers 10,000."""


class BatchMaker:
    """Give it each answer after `ClusterView.apply`. It remembers what the next ones are compared with."""

    def __init__(self) -> None:
        self._names: dict[FrameworkID, FrameworkNames] = {}
        self._hostnames: dict[SlaveID, str] = {}
        self._slaves: dict[SlaveID, tuple[str, SlaveNow]] = {}
        """Each with the id of the master that said so."""
        self._frameworks: dict[FrameworkID, PastFramework] = {}
        self._counted: set[FrameworkID] = set()
        """Frameworks of which only counts have changed since they were written."""
        self._held: list[EndedTask] = []
        self._missed = 0
        self._sampled_at = float("-inf")

    def batch(self, view: ClusterView, changes: Changes) -> Batch:
        """What is to be kept of this answer, which the view has taken over."""
        at = view.heard_at
        self._missed += changes.ended_missed
        self._names.update(
            (info.framework_id, FrameworkNames(info.name, info.role)) for info in changes.framework_infos
        )
        self._hostnames.update((info.slave_id, info.hostname) for info in changes.slave_infos)
        ended = self._ended(changes)
        slave_changes = [
            SlaveChange(moment, slave.slave_id, self._hostnames.get(slave.slave_id, ""), event)
            for slave in changes.slaves
            for moment, event in self._slave_events(view, slave, changes.master.master_id)
        ]
        frameworks = list(self._framework_changes(view, changes))
        shares: Iterable[ShareSample] = ()
        utilization: Iterable[UtilizationSample] = ()
        is_whole = not self._held  # else there are ends that a restarted gateway would have to ask for again
        missed, self._missed = (self._missed, 0) if is_whole else (0, self._missed)
        names = self._names_of(ended)
        hostnames = self._hostnames_of(ended)
        if not changes.has_more and not 0 <= at - self._sampled_at < SAMPLE_S:
            self._sampled_at = at
            shares, utilization = _shares(view, at), _utilization(view, at)
            frameworks += self._forget_gone(view)
            frameworks += [self._frameworks[each] for each in sorted(self._counted)]
            self._counted.clear()
        return Batch(
            at=at,
            master_id=changes.master.master_id,
            clock_offset_s=view.clock_offset_s,
            origin=changes.origin if is_whole else "",
            ended_after=changes.ended_after,
            ended_missed=missed,
            ended=tuple(ended),
            names=names,
            hostnames=hostnames,
            frameworks=tuple(frameworks),
            slave_changes=tuple(slave_changes),
            shares=tuple(shares),
            utilization=tuple(utilization),
        )

    # -- Tasks ----------------------------------------------------------------------------------------------------------

    def _ended(self, changes: Changes) -> list[EndedTask]:
        """The ends to be written now."""
        if not self._held and all(task.framework_id in self._names for task in changes.ended):
            return changes.ended
        self._held += changes.ended
        if changes.has_more and len(self._held) < MAX_HELD:
            return []
        ended, self._held = self._held, []
        return ended

    def _names_of(self, ended: list[EndedTask]) -> dict[FrameworkID, FrameworkNames]:
        framework_ids = {task.framework_id for task in ended}
        return {each: self._names[each] for each in framework_ids if each in self._names}

    def _hostnames_of(self, ended: list[EndedTask]) -> dict[SlaveID, str]:
        slave_ids = {task.slave_id for task in ended}
        return {each: self._hostnames[each] for each in slave_ids if each in self._hostnames}

    # -- Slaves ---------------------------------------------------------------------------------------------------------

    def _slave_events(
        self, view: ClusterView, slave: SlaveNow, master_id: str
    ) -> Iterator[tuple[float, str]]:
        """What has happened to it since it was seen last, with the time."""
        known_to, before = self._slaves.get(slave.slave_id, ("", None))
        self._slaves[slave.slave_id] = master_id, slave
        was_lost = before is None or before.state == "lost"
        if slave.state == "lost":
            if before is None or not was_lost:
                yield view.wall(slave.since), "lost"
            return
        is_new = was_lost or known_to != master_id
        if is_new:
            yield view.wall(slave.since), "registered"
        was_connected = True if before is None or is_new else before.is_connected
        if slave.is_connected != was_connected:
            yield view.heard_at, "heard" if slave.is_connected else "silent"
        if slave.state != ("active" if before is None or was_lost else before.state):
            yield view.heard_at, slave.state
        if slave.is_disk_full != (before is not None and before.is_disk_full):
            yield view.heard_at, "disk-full" if slave.is_disk_full else "disk-free"

    # -- Frameworks -----------------------------------------------------------------------------------------------------

    def _framework_changes(self, view: ClusterView, changes: Changes) -> Iterator[PastFramework]:
        """Frameworks that are new or other than before. Where only counts are, the next sample will do."""
        changed = {framework.framework_id for framework in changes.frameworks}
        changed.update(info.framework_id for info in changes.framework_infos)
        for framework_id in sorted(changed):
            framework = view.replica.frameworks.get(framework_id)
            if framework is None:
                continue
            is_now = self._described(view, framework)
            before = self._frameworks.get(framework_id)
            self._frameworks[framework_id] = is_now
            if before is not None and msgspec.structs.replace(before, counts=is_now.counts) == is_now:
                if before != is_now:
                    self._counted.add(framework_id)
                continue
            self._counted.discard(framework_id)
            yield is_now

    def _described(self, view: ClusterView, framework: FrameworkNow) -> PastFramework:
        framework_id = framework.framework_id
        names = self._names.get(framework_id, FrameworkNames())
        info = view.replica.framework_infos.get(framework_id)
        return PastFramework(
            framework_id,
            names.name,
            names.role,
            "" if info is None else info.user or info.account,
            "" if info is None else info.hostname,
            view.wall(framework.since),
            view.wall_or_none(framework.ended_at),
            framework.state,
            framework.ended_counts,
        )

    def _forget_gone(self, view: ClusterView) -> list[PastFramework]:
        """What the master does not know any more. Returns frameworks of which it has not said that they ended."""
        if self._held:
            return []
        replica, known = view.replica, self._frameworks
        gone = [known.pop(each) for each in sorted(known.keys() - replica.frameworks.keys())]
        self._counted &= known.keys()
        self._names = {each: names for each, names in self._names.items() if each in replica.framework_infos}
        self._hostnames = {
            each: name for each, name in self._hostnames.items() if each in replica.slave_infos
        }
        self._slaves = {each: slave for each, slave in self._slaves.items() if each in replica.slaves}
        return [msgspec.structs.replace(each, state="forgotten") for each in gone if each.state != "ended"]


def _shares(view: ClusterView, at: float) -> Iterator[ShareSample]:
    frameworks = [framework for framework in view.replica.frameworks.values() if framework.state != "ended"]
    if len(frameworks) > MAX_SHARES:
        frameworks = heapq.nlargest(MAX_SHARES, frameworks, key=lambda each: each.share)
    for framework in frameworks:
        tally = view.by_framework.get(framework.framework_id, NO_TALLY)
        if framework.share or tally.held:
            yield ShareSample(
                at, framework.framework_id, framework.share, tally.held["cpus"], tally.held["mem"],
                tally.tasks[TaskState.RUNNING],
            )  # fmt: skip


def _utilization(view: ClusterView, at: float) -> Iterator[UtilizationSample]:
    slaves = [slave for slave in view.replica.slaves.values() if slave.state != "lost"]
    used = {
        "cpus": sum(slave.used_millicpus for slave in slaves),
        "mem": sum(slave.used_mem_bytes for slave in slaves),
    }
    held, offered = view.everything.held, view.everything.offered
    for resource, total in view.total().items():
        yield UtilizationSample(at, resource, total, held[resource], offered[resource], used.get(resource))
