"""What browsers are sent: one that applies each text shows what the gateway knows, whatever was left out, reset or missed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from helpers.gateway import a_task, changes, framework_of, the_end, two_owners
from helpers.random_events import RandomEvents
from helpers.shadow import EVERYTHING
from offerd.ids import FrameworkID, SlaveID
from offerd.protocol.change_messages import Changes, TaskNow
from offerd_master.core import following
from offerd_web.core import live
from offerd_web.core.live import LiveFeed, Text
from offerd_web.core.view import ClusterView

BarKey = tuple[str, str, float]


class Browser:
    """Applies texts as the page does; `gone_first` turns the order within a text around, which must not matter."""

    def __init__(self, feed: LiveFeed, *, gone_first: bool = False) -> None:
        self._feed = feed
        self._gone_first = gone_first
        self.number: int | None = None
        self.slaves: dict[str, Any] = {}
        self.frameworks: dict[str, Any] = {}
        self.bars: dict[BarKey, list[Any]] = {}
        self.left_out = 0

    @property
    def open_bars(self) -> dict[BarKey, list[Any]]:
        return {key: bar for key, bar in self.bars.items() if bar[5] is None}

    def read(self, now: float) -> None:
        """Everything that has come since the last time."""
        texts = None if self.number is None else self._feed.after(self.number)
        for text in [self._feed.first(now)] if texts is None else texts:
            self._apply(text)

    def _apply(self, text: Text) -> None:
        document = json.loads(text.data)
        assert document["number"] == text.number
        self.number = text.number
        if document["is_first"]:
            self.slaves, self.frameworks, self.bars, self.left_out = {}, {}, {}, 0
        self.left_out += document["bars_left_out"]
        if self._gone_first:
            self._drop_bars(document)
        self._take_bars(document)
        if not self._gone_first:
            self._drop_bars(document)
        self.slaves.update((slave[0], slave) for slave in document["slaves"])
        self.frameworks.update((framework[0], framework) for framework in document["frameworks"])
        for key in document["gone_slaves"]:
            self.slaves.pop(key, None)
        for key in document["gone_frameworks"]:
            self.frameworks.pop(key, None)

    def _take_bars(self, document: dict[str, Any]) -> None:
        for bar in document["bars"]:
            self.bars[bar[0], bar[1], bar[3]] = bar

    def _drop_bars(self, document: dict[str, Any]) -> None:
        for framework_id, task_id, launched_at in document.get("gone_bars", ()):
            if self.bars.get((framework_id, task_id, launched_at), [None] * 6)[5] is None:
                self.bars.pop((framework_id, task_id, launched_at), None)


class Viewer:
    """A feed for callers that see some frameworks, and their browsers: one reads each text, others fall behind."""

    def __init__(self, view: ClusterView, modulus: int) -> None:
        self.view = view
        self.modulus = modulus
        self.feed = LiveFeed(view, self.sees, self.describe)
        self.browsers = [Browser(self.feed), Browser(self.feed, gone_first=True), Browser(self.feed)]

    def sees(self, framework_id: str) -> bool:
        return sum(framework_id.encode()) % self.modulus == 0

    def describe(self, slaves: set[SlaveID] | None, frameworks: set[FrameworkID] | None) -> dict[str, Any]:
        replica = self.view.replica
        here = [i for i in replica.frameworks if self.sees(i) and (frameworks is None or i in frameworks)]
        return {
            "slaves": [
                (i, each.state, len(each.offers))
                for i, each in replica.slaves.items()
                if slaves is None or i in slaves
            ],
            "frameworks": [(i, replica.frameworks[i].state, replica.frameworks[i].share) for i in here],
            "gone_slaves": sorted((slaves or set()) - replica.slaves.keys()),
            "gone_frameworks": sorted((frameworks or set()) - replica.frameworks.keys()),
        }

    def check(self, browser: Browser) -> None:
        """What it shows is what there is."""
        everything = json.loads(json.dumps(self.describe(None, None)))
        assert browser.slaves == {each[0]: each for each in everything["slaves"]}
        assert browser.frameworks == {each[0]: each for each in everything["frameworks"]}
        wall = self.view.wall
        there: dict[BarKey, TaskNow] = {
            (task.framework_id, task.task_id, wall(task.launched_at)): task
            for task in self.view.replica.tasks.values()
            if self.sees(task.framework_id)
        }
        assert browser.open_bars.keys() <= there.keys(), "a bar remains open for ever"
        missing = there.keys() - browser.open_bars.keys()
        assert len(missing) <= browser.left_out, "a task is not shown, and not counted"
        for key, bar in browser.open_bars.items():
            assert (bar[2], bar[6]) == (there[key].slave_id, there[key].state.value)
        assert all(self.sees(key[0]) for key in browser.bars), "somebody else's"


class WatchedEvents(RandomEvents):
    """After each event the gateway hears one answer, and now and then makes texts and is read."""

    def __init__(self) -> None:
        self.view = ClusterView()
        self.viewers = [Viewer(self.view, modulus) for modulus in (1, 2)]
        self.steps = 0
        super().__init__()

    @invariant()
    def browsers_show_what_there_is(self) -> None:
        self.steps += 1
        core, now, view = self.cluster.core.cluster, self.cluster.now, self.view
        following.note_follower(core, now)
        following.scan_frameworks(core)
        question = view.replica.question(limit=(3, 1000, 7)[self.steps % 3])
        if self.steps % 29 == 0:
            question = type(question)(limit=5)  # it has lost its place
        delta = view.apply(following.changes_since(core, EVERYTHING, question, now), 1e9 + now)
        for viewer in self.viewers:
            viewer.feed.take(delta)
            late = viewer.browsers[2]
            if self.steps % 5 == 3:
                late.read(now)  # between two texts
            if self.steps % 2:
                viewer.feed.flush(1e9 + now, "")
                for browser in viewer.browsers[: 3 if self.steps % 7 == 0 else 2]:
                    browser.read(1e9 + now)
                    viewer.check(browser)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a few tasks reach."""
    monkeypatch.setattr(live, "MAX_TASKS", 3)
    monkeypatch.setattr(live, "MAX_FIRST_TASKS", 8)
    monkeypatch.setattr(live, "MAX_KEPT", 4)


@pytest.mark.usefixtures("small")
def test_browsers_show_what_the_gateway_knows_under_small_limits() -> None:
    run_state_machine_as_test(WatchedEvents, settings=settings(max_examples=40, stateful_step_count=50))


def test_browsers_show_everything_under_the_usual_limits() -> None:
    run_state_machine_as_test(WatchedEvents, settings=settings(max_examples=20, stateful_step_count=50))


def test_a_task_that_opens_and_goes_within_one_text_leaves_no_open_bar() -> None:
    view = ClusterView()
    viewer = Viewer(view, 1)

    def hear(*answers: Changes) -> None:
        for answer in answers:
            viewer.feed.take(view.apply(answer, 1000.0))
        viewer.feed.flush(1000.0, "")
        for browser in viewer.browsers:
            browser.read(1000.0)
            viewer.check(browser)

    bob = framework_of("bob")
    hear(two_owners())
    hear(
        changes(tasks=[a_task("bob", "t", 70.0)]),
        changes(forgotten_tasks=[(bob, "t", 70.0)]),
    )
    hear(changes(tasks=[a_task("bob", "t", 80.0)]))
    hear(
        changes(forgotten_tasks=[(bob, "t", 80.0)]),
        changes(tasks=[a_task("bob", "t", 90.0)]),
        changes(tasks=[a_task("bob", "t", 90.0)], forgotten_tasks=[(bob, "task-bob", 50.0)]),
    )
    for browser in viewer.browsers:
        assert [key for key in browser.open_bars if key[0] == bob] == [(bob, "t", view.wall(90.0))]


def test_ends_of_others_are_not_counted_as_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_TASKS", 1)
    view = ClusterView()
    viewer = Viewer(view, 1)
    feed = LiveFeed(view, lambda framework_id: framework_id == framework_of("alice"), viewer.describe)
    view.apply(two_owners(), 1000.0)
    tasks = [a_task(owner, f"{owner}{number}") for owner in ("alice", "bob") for number in range(5)]
    feed.take(view.apply(changes(ended=[the_end(task) for task in tasks]), 1000.0))
    feed.take(view.apply(changes(ended=[the_end(task) for task in tasks]), 1000.0))
    feed.flush(1000.0, "")
    browser = Browser(feed)
    browser.number = 0
    browser.read(1000.0)
    assert browser.left_out == 9
    assert all(key[0] == framework_of("alice") for key in browser.bars)
