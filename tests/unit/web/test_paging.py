"""Pages of tasks: each that is open all the while is on one page exactly, whatever comes and goes between two pages."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helpers.gateway import OWNERS, a_task, bare_context, changes, framework_of, the_end, two_owners
from offerd.protocol.change_messages import TaskNow
from offerd.states import TaskState
from offerd_web.api.tasks import open_page
from offerd_web.core.task_filter import TaskFilter
from offerd_web.services.callers import Caller
from offerd_web.services.context import Context

EVERYBODY, ALICE = Caller("root", is_operator=True), Caller("alice", is_operator=False)
times = st.sampled_from([0.0, 1.0, 1.0004, 1.0005, 1.0006, 2.5, 77.7777])
tasks = st.builds(
    a_task, st.sampled_from(["alice", "bob"]), st.sampled_from([f"t{number}" for number in range(40)]), times
)


def context_of(*found: TaskNow) -> Context:
    context = bare_context()
    context.view.apply(two_owners(), 1000.0)
    nobodys = [(framework_of(owner), f"task-{owner}", 50.0) for owner in OWNERS]
    context.view.apply(changes(forgotten_tasks=nobodys), 1000.0)
    context.view.apply(changes(tasks=list(found)), 1000.0)
    return context


def ids(found: list[TaskNow]) -> list[tuple[str, str]]:
    return [(task.framework_id, task.task_id) for task in found]


@given(
    st.lists(tasks, max_size=30, unique_by=lambda task: (task.framework_id, task.task_id)),
    st.lists(st.tuples(st.booleans(), tasks), max_size=30),
    st.integers(1, 7),
    st.sampled_from([EVERYBODY, ALICE]),
)
def test_each_open_task_is_on_one_page(
    first: list[TaskNow], between: list[tuple[bool, TaskNow]], limit: int, caller: Caller
) -> None:
    context = context_of(*first)
    steady = dict.fromkeys(ids(first))
    after: str | None = ""
    got: list[tuple[str, str]] = []
    changing = iter(between)
    while after is not None:
        page, after = open_page(context, caller, TaskFilter(), after, limit)
        assert len(page) == limit or after is None
        got += ids(page)
        for is_new, task in (step for step in (next(changing, None),) if step is not None):
            known = context.view.replica.tasks.get((task.framework_id, task.task_id))
            steady.pop((task.framework_id, task.task_id), None)
            if known is not None:
                context.view.apply(changes(ended=[the_end(known)]), 1000.0)
            if is_new:
                context.view.apply(changes(tasks=[task]), 1000.0)
    seen = [key for key in got if key in steady]
    assert sorted(seen) == sorted(key for key in steady if caller.sees(key[0]))
    assert all(caller.sees(key[0]) for key in got)


def matching(**wanted: Any) -> list[str]:
    """The tasks that a filter lets through."""
    found = [
        a_task("alice", "a-running", 10.0),
        a_task("alice", "a-staging", 20.0, state=TaskState.STAGING, running_since=None),
        a_task("bob", "b-running", 30.0, name="special"),
    ]
    context = context_of(*found)
    page, following = open_page(context, EVERYBODY, TaskFilter(**wanted), "", 100)
    assert following is None
    return [task.task_id for task in page]


def test_filters_are_all_true_of_what_is_listed() -> None:
    assert matching() == ["b-running", "a-staging", "a-running"], "the latest launch first"
    assert matching(states=frozenset({TaskState.STAGING})) == ["a-staging"]
    assert matching(states=frozenset({TaskState.FINISHED})) == []
    assert matching(framework=framework_of("bob")) == ["b-running"]
    assert matching(framework="work of alice") == ["a-staging", "a-running"]
    assert matching(slave="host-1") == matching(slave="S1") == matching()
    assert matching(slave="host-2") == []
    assert matching(name="spec") == ["b-running"]
    assert matching(name="a-") == ["a-staging", "a-running"]
    assert matching(user="alice") == ["a-staging", "a-running"]
    assert matching(name="running", framework="work of alice") == ["a-running"]
    context = context_of(a_task("alice", "x", 10.0), a_task("alice", "y", 20.0))
    page, _ = open_page(context, EVERYBODY, TaskFilter(until=context.view.wall(20.0)), "", 9)
    assert [task.task_id for task in page] == ["x"]
