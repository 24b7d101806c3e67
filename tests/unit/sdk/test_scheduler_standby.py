"""A scheduler that stands by, and masters that no longer lead or do not lead yet: the scheduler's part in a fail-over."""

from __future__ import annotations

from offerd.core.scheduler_core import Action, Call, End, SchedulerCore, Send
from offerd.ids import FrameworkID, OfferID, SlaveID
from offerd.messages import (
    FailOver,
    FrameworkInfo,
    FrameworkRegistered,
    FrameworkStandsBy,
    Message,
    NotLeading,
    NotRegistered,
    Offer,
    Ping,
    Pong,
    RegisterFramework,
    ResourceOffers,
    TeardownFramework,
)
from offerd.resources import Resources
from offerd.wire import codec

F = FrameworkID("F-1")


class Harness:
    """A core, a clock, and what came out of it: messages, and callbacks as text."""

    def __init__(self, *, stands_by: bool = False, finds_leader: bool = False) -> None:
        self.core = SchedulerCore(FrameworkInfo("test"), stands_by=stands_by, finds_leader=finds_leader)
        self.now = 100.0
        self.sent: list[Message] = []
        self.called: list[str] = []
        self.perform(self.core.start(self.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self.sent.append(action.message)
                case Call():
                    self.called.append(" ".join([action.callback, *map(str, action.arguments)]))
                case End():
                    self.called.append(f"end {action.reason}")

    def receive(self, *messages: Message) -> None:
        for frame in codec.frames(messages):
            for message in codec.to_scheduler.decode(frame)[1]:
                self.perform(self.core.handle(message, self.now))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.core.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            self.perform(self.core.tick(self.now))
        self.now = end

    def take_sent(self) -> list[Message]:
        sent, self.sent = self.sent, []
        return sent

    def take_called(self) -> list[str]:
        called, self.called = self.called, []
        return called


def standing_by() -> Harness:
    """A scheduler that waits behind the active one."""
    harness = Harness(stands_by=True)
    harness.receive(FrameworkStandsBy(F, "M-1"))
    harness.take_sent()
    return harness


def test_scheduler_that_stands_by_says_so_once_and_keeps_quiet_while_it_is_pinged() -> None:
    harness = standing_by()
    assert harness.take_called() == ["standing_by F-1 M-1"]
    for _ in range(10):
        harness.wait(5)
        harness.receive(Ping())
    assert harness.take_sent() == [Pong()] * 10
    harness.receive(FrameworkStandsBy(F, "M-1", 1))
    assert harness.take_called() == []


def test_promotion_is_a_registration() -> None:
    harness = standing_by()
    harness.take_called()
    harness.receive(FrameworkRegistered(F, "M-1", True, promoted=True))
    assert harness.take_called() == ["registered F-1 M-1"]
    assert harness.core.is_registered


def test_a_scheduler_that_stands_by_registers_again_with_a_silent_or_new_master() -> None:
    harness = standing_by()
    harness.wait(15.1)
    assert isinstance(harness.take_sent()[0], RegisterFramework)
    harness.receive(FrameworkStandsBy(F, "M-2"), NotRegistered())
    (registration,) = harness.take_sent()
    assert isinstance(registration, RegisterFramework)
    assert (registration.stands_by, registration.was_active) == (True, False)


def test_active_scheduler_that_has_to_stand_by_loses_its_offers_and_is_registered_anew_later() -> None:
    harness = standing_by()
    harness.receive(
        FrameworkRegistered(F, "M-1"),
        ResourceOffers([Offer(OfferID("O-1"), SlaveID("S-1"), "host", Resources.of(cpus=4))]),
    )
    harness.take_called()
    harness.receive(FrameworkStandsBy(F, "M-1"))
    assert harness.take_called() == ["offer_rescinded O-1", "disconnected", "standing_by F-1 M-1"]
    harness.receive(FrameworkRegistered(F, "M-1", True, promoted=True))
    assert harness.take_called() == ["reregistered M-1"]


def test_scheduler_that_leaves_says_whether_its_framework_stays() -> None:
    harness = standing_by()
    assert harness.core.teardown(0.0) == [Send(FailOver())]
    harness.receive(FrameworkRegistered(F, "M-1"))
    assert harness.core.fail_over(0.0) == [Send(FailOver())]
    assert harness.core.teardown(0.0) == [Send(TeardownFramework())]


def test_master_of_an_older_epoch_is_not_obeyed() -> None:
    core = Harness().core
    assert core.obeys(5)
    assert not core.obeys(4)
    assert core.obeys(0), "one that stands by leads nobody, and says only that"
    assert core.obeys(5)


def test_master_named_by_address_that_stands_by_ends_the_driver_and_says_who_leads() -> None:
    harness = Harness()
    harness.receive(NotLeading("tcp://10.0.0.1:5060"))
    assert harness.take_called() == ["end MASTER_STANDS_BY"]
    found = Harness(finds_leader=True)
    found.take_sent()
    found.receive(NotLeading("tcp://10.0.0.1:5060"))
    assert found.take_called() == []
    found.wait(0.3)
    assert isinstance(found.take_sent()[0], RegisterFramework)
