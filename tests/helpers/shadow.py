"""A follower that looks over a master's shoulder: what it has been sent must be what the master holds, and its sums right."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from helpers.recount import check_sums
from offerd.ids import PeerID
from offerd.wire import codec
from offerd_master.core import following
from offerd_master.core.caller import Caller
from offerd_master.core.master import MasterCore
from offerd_web.core.view import ClusterView

EVERYTHING = Caller(PeerID(b"shadow"))
LIMITS = (3, 1000, 40)
"""Of entries in an answer: short ones are cut in the middle of what changed."""


class Shadow:
    """A view of one master, and how many ends it has heard of."""

    def __init__(self) -> None:
        self.view = ClusterView()
        self.ended = self.looks = 0

    def look(self, core: MasterCore, now: float) -> None:
        """Ask until there is no more, then compare."""
        c = core.cluster
        following.note_follower(c, now)
        following.scan_frameworks(c)
        limit = LIMITS[self.looks % len(LIMITS)]
        self.looks += 1
        view, replica = self.view, self.view.replica
        while True:
            question = replica.question(limit=limit)
            answer = following.changes_since(c, EVERYTHING, question, now)
            (frame,) = codec.frames([answer])
            _, (heard,) = codec.to_operator.decode(frame)
            assert heard == answer, "what is sent is what is read, within the bounds of the wire"
            assert len(answer.ended) + len(answer.tasks) + len(answer.slaves) <= limit
            before, was_current = (question.after, question.ended_after), replica.is_current
            view.apply(answer, now)
            check_sums(view)
            self.ended = len(answer.ended) + (0 if not question.ended_after else self.ended)
            if replica.is_current:
                break
            assert answer.is_reset or (answer.after, answer.ended_after) != before, f"stuck ({was_current})"
        self.compare(core)

    def compare(self, core: MasterCore) -> None:
        c, replica = core.cluster, self.view.replica
        slaves = {**c.lost_slaves, **c.slaves}
        assert replica.slaves == {i: following.slave_now(c, EVERYTHING, slave) for i, slave in slaves.items()}
        assert replica.slave_infos == {i: slave.info for i, slave in slaves.items()}
        frameworks = {**c.ended_frameworks, **c.frameworks}
        assert replica.frameworks == {i: following.framework_now(c, one) for i, one in frameworks.items()}
        assert replica.framework_infos == {i: one.launch_info for i, one in frameworks.items()}
        tasks = [
            task for one in frameworks.values() for task in (*one.tasks.values(), *one.unreachable.values())
        ]
        assert replica.tasks == {
            (task.framework.framework_id, task.task_id): following.task_now(task) for task in tasks
        }
        assert self.ended <= c.changes.ended_count


_SHADOWS: WeakKeyDictionary[MasterCore, Shadow] = WeakKeyDictionary()


def check_replica(core: MasterCore, now: float) -> None:
    """Raise `AssertionError` where a follower of this master would be wrong about it."""
    _SHADOWS.setdefault(core, Shadow()).look(core, now)
