"""A new master's first moments: what it does not know yet, it must not act on.

It begins with nothing, and slaves and schedulers come back one by one. Whoever comes first would be offered everything,
whatever its share was, and what belongs to frameworks that are a moment later. So when the first of an earlier master's peers
comes, offers wait until none has come for a while, for a bounded time; and no task is revoked before all have had their time:
what is missing to a guarantee may be on a slave that is still to come. A cluster that starts afresh waits for nothing.
"""

from __future__ import annotations

from offerd.ids import TaskID
from offerd_master.core.state import Cluster, Framework

MAX_REMEMBERED = 10_000
"""Tasks called lost without a slave to ask that are remembered for a framework."""


def note_return(c: Cluster, now: float) -> None:
    """A slave or scheduler that knew an earlier master has said hello: others may be on their way."""
    settings = c.settings
    window_ends_at = c.started_at + settings.recovery_window_s
    if now < window_ends_at:
        c.revoke_not_before = c.started_at + settings.adoption_grace_s
        c.hold_until = min(now + settings.recovery_quiet_s, window_ends_at)


def remember_unknown(c: Cluster, framework: Framework, task_id: TaskID) -> None:
    """A scheduler was told that a task is lost, because no slave had it in all the time that slaves have to return, or by an
    earlier master. If one comes later with it all the same, the task is ended: its scheduler has had its one end of it.
    """
    called = framework.called_unknown
    if task_id not in called:
        called[task_id] = None
        c.budgets.remembers(framework.framework_id, 1)
    if len(called) > MAX_REMEMBERED or c.budgets.remembers_too_much(framework.framework_id):
        forget_unknown(c, framework, next(iter(called)))


def forget_unknown(c: Cluster, framework: Framework, task_id: TaskID) -> None:
    """It is another one now, or its scheduler will not be told of it again."""
    if task_id in framework.called_unknown:
        del framework.called_unknown[task_id]
        c.budgets.remembers(framework.framework_id, -1)
