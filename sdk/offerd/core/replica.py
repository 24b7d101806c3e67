"""What a follower of a master knows: the answers to its questions (`offerd.protocol.change_messages`), put together.

It equals what the master held at the moment of the last answer that had all there was; a test in the simulation ring says so
after every event.
"""

from __future__ import annotations

from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.messages import FrameworkInfo, SlaveInfo
from offerd.protocol.change_messages import Changes, FollowChanges, FrameworkNow, MasterNow, SlaveNow, TaskNow


class Replica:
    """Ask the master `question()` and give the answer to `apply`, again and again. Read the fields in between, change none."""

    def __init__(self) -> None:
        self.master: MasterNow | None = None
        """None: nothing has been heard yet."""
        self.slaves: dict[SlaveID, SlaveNow] = {}
        self.slave_infos: dict[SlaveID, SlaveInfo] = {}
        self.frameworks: dict[FrameworkID, FrameworkNow] = {}
        self.framework_infos: dict[FrameworkID, FrameworkInfo] = {}
        self.tasks: dict[tuple[FrameworkID, TaskID], TaskNow] = {}
        """Those that have not ended."""
        self.now = 0.0
        """The master's clock at the last answer."""
        self.is_current = False
        """The last answer had all there was."""
        self._origin = ""
        self._after = self._ended_after = 0

    def resume(self, origin: str, ended_after: int) -> None:
        """Before the first question: of ends, ask only for those after this number of this origin (`Changes`)."""
        self._origin, self._ended_after = origin, ended_after

    def question(self, wait_s: float = 10.0, limit: int = 1000) -> FollowChanges:
        """What to ask the master next; it answers at the latest after `wait_s`, with at most `limit` entries."""
        return FollowChanges(self._origin, self._after, self._ended_after, wait_s, limit)

    def apply(self, changes: Changes) -> None:
        """Take over an answer. `changes.ended` are for the caller to keep: only open tasks are here."""
        if changes.is_reset:
            for known in (self.slaves, self.slave_infos, self.frameworks, self.framework_infos, self.tasks):
                known.clear()
        self.master, self.now = changes.master, changes.now
        self._origin, self._after, self._ended_after = changes.origin, changes.after, changes.ended_after
        self.is_current = not changes.has_more
        for key in self.closed_by(changes):
            del self.tasks[key]
        for slave_id in changes.forgotten_slaves:
            self.slaves.pop(slave_id, None)
            self.slave_infos.pop(slave_id, None)
        for framework_id in changes.forgotten_frameworks:
            self.frameworks.pop(framework_id, None)
            self.framework_infos.pop(framework_id, None)
        self.slave_infos.update((info.slave_id, info) for info in changes.slave_infos)
        self.slaves.update((slave.slave_id, slave) for slave in changes.slaves)
        self.framework_infos.update((info.framework_id, info) for info in changes.framework_infos)
        self.frameworks.update((framework.framework_id, framework) for framework in changes.frameworks)
        self.tasks.update(((task.framework_id, task.task_id), task) for task in changes.tasks)

    def closed_by(self, changes: Changes) -> list[tuple[FrameworkID, TaskID]]:
        """Which of the open tasks are not open any more, as an answer says that is not applied yet."""
        tasks = self.tasks
        found: dict[tuple[FrameworkID, TaskID], None] = {}
        for record in changes.ended:
            task = tasks.get(key := (record.framework_id, record.task_id))
            if task is not None and task.launched_at == record.launched_at:
                found[key] = None
        for framework_id, task_id, launched_at in changes.forgotten_tasks:
            task = tasks.get(key := (framework_id, task_id))
            if task is not None and task.launched_at == launched_at:
                found[key] = None
        return [*found]
