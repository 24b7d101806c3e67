"""A `ClusterExecutor` without a cluster, whose calls end as a test says."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers.fake_master import InstantCluster, Outcome
from offerd.cluster_executor import ClusterExecutor
from offerd.messages import Reason, TaskInfo, TaskState, TaskStatus
from offerd.python_calls import calls
from offerd.resources import Resources

WAIT_S = 10.0
SLAVE = Resources.of(cpus=4, mem="4G")


def call_here(task: TaskInfo) -> TaskStatus:
    """Make the call as the python executor does, in the fake master's thread."""
    call = calls.unpack_call(task.data)
    args, kwargs = pickle.loads(call.arguments)
    try:
        value = calls.FunctionCache().load(call.function)(*args, **kwargs)
    except Exception as error:  # marked: the call's own code, as in a worker
        data = calls.pack_result(calls.raised(error), call.key)
        return TaskStatus(task.task_id, TaskState.FAILED, 1, Reason.CALL_RAISED, data=data)
    return finished(task, calls.Inline(calls.pickle_value(value)))


def finished(task: TaskInfo, result: calls.Result) -> TaskStatus:
    """A finished status with this result, sealed as the executor does."""
    data = calls.pack_result(result, calls.unpack_call(task.data).key)
    return TaskStatus(task.task_id, TaskState.FINISHED, 1, data=data)


def runs_on(task: TaskInfo) -> None:
    """A task that never ends by itself."""


def ends(state: TaskState, reason: str) -> Outcome:
    """Every task ends in this state."""
    return lambda task: TaskStatus(task.task_id, state, 1, reason, message="because")


def first(times: int, before: Outcome, after: Outcome = call_here) -> Outcome:
    """The first `times` tasks end as `before` says, later ones as `after`."""
    count = itertools.count(1)
    return lambda task: before(task) if next(count) <= times else after(task)


@contextmanager
def cluster(
    outcome: Outcome = call_here, *, resources: Resources = SLAVE, slaves: int = 1, **more: Any
) -> Iterator[tuple[InstantCluster, ClusterExecutor]]:
    options = {name: more.pop(name) for name in ("long_quantities", "files_address") if name in more}
    with (
        InstantCluster(resources, slaves=slaves, outcome=outcome, **options) as fake,
        ClusterExecutor(fake.address, **more) as executor,
    ):
        yield fake, executor
