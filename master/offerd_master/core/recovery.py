"""A new master's first moments: it must not act on what it does not know yet.

It begins with nothing, and slaves and schedulers return one by one. Without a pause, the first framework would be offered
everything, whatever its share, although much of it belongs to frameworks that return a moment later. So when the first peer of
an earlier master returns, offers wait until no more have returned for a while, for a bounded time. No task is revoked before
all have had time to return, because the missing part of a guarantee may be on a slave that is yet to come. A new cluster does
not wait.
"""

from __future__ import annotations

from offerd.ids import TaskID
from offerd_master.core.cluster import Cluster
from offerd_master.core.state import Framework

MAX_REMEMBERED = 10_000
"""Tasks called lost, without a slave that could be asked, that are remembered for one framework."""


def note_return(c: Cluster, now: float) -> None:
    """A slave or scheduler that knew an earlier master has registered: others may be on their way."""
    settings = c.settings
    window_ends_at = c.started_at + settings.recovery_window_s
    if now < window_ends_at:
        c.revoke_not_before = c.started_at + settings.adoption_grace_s
        c.hold_until = min(now + settings.recovery_quiet_s, window_ends_at)


def remember_unknown(c: Cluster, framework: Framework, task_id: TaskID) -> None:
    """A task was called lost, by us because no slave had it in all the time that slaves have to return, or by an earlier
    master. If a slave comes later with the task, the task is killed: its scheduler has had its terminal status.
    """
    called = framework.called_unknown
    if task_id not in called:
        called[task_id] = None
        c.budgets.remembers(framework.framework_id, 1)
    if len(called) > MAX_REMEMBERED or c.budgets.remembers_too_much(framework.framework_id):
        forget_unknown(c, framework, next(iter(called)))


def forget_unknown(c: Cluster, framework: Framework, task_id: TaskID) -> None:
    """The id now names another task, or its scheduler will not be sent this status again."""
    if task_id in framework.called_unknown:
        del framework.called_unknown[task_id]
        c.budgets.remembers(framework.framework_id, -1)
