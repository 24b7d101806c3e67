"""A scheduler's end of the protocol, without socket or clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offerd.core import scheduler_core, scheduler_tasks
from offerd.core.scheduler_core import Action, Answer, Call, Deliver, End, SchedulerCore, Send
from offerd.ids import ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.messages import (
    AcceptOffers,
    Acknowledge,
    DeclineOffers,
    Dropped,
    ExecutorLost,
    Filters,
    FrameworkInfo,
    FrameworkMessage,
    FrameworkRefused,
    FrameworkRegistered,
    GetGuaranteedShare,
    GuaranteedShare,
    KillTask,
    Message,
    NotRegistered,
    Offer,
    Ping,
    Pong,
    Reason,
    ReconcileTasks,
    RegisterFramework,
    RescindOffer,
    ResourceOffers,
    ReviveOffers,
    SetFilters,
    SetNeedsOffers,
    SlaveLost,
    StatusUpdate,
    TaskInfo,
    TaskState,
    TaskStatus,
    TeardownFramework,
)
from offerd.resources import Resources
from offerd.wire import codec

F = FrameworkID("F-1")
S = SlaveID("S-1")
CPU = Resources.of(cpus=1)


def offer(number: int = 1, slave: str = "S-1") -> Offer:
    return Offer(OfferID(f"O-{number}"), SlaveID(slave), "host", Resources.of(cpus=4))


def task(name: str = "t") -> TaskInfo:
    return TaskInfo(TaskID(name), CPU, ExecutorID("e"))


def status(
    state: TaskState, sequence: int = 1, name: str = "t", reason: str = "", slave: SlaveID = S
) -> StatusUpdate:
    return StatusUpdate(F, TaskStatus(TaskID(name), state, sequence, reason, slave_id=slave))


class Harness:
    """A core, a clock, and what came out of it: messages through the codec, callbacks as text."""

    def __init__(self, framework_id: str = "") -> None:
        self.core = SchedulerCore(FrameworkInfo("test", FrameworkID(framework_id)))
        self.now = 100.0
        self.sent: list[object] = []
        self.called: list[str] = []
        self.statuses: list[TaskStatus] = []
        self.perform(self.core.start(self.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self.sent += codec.to_master.decode(next(codec.frames([action.message])))[1]
                case Deliver():
                    self.statuses.append(action.status)
                    self.core.delivered(action.status)
                case Call():
                    self.called.append(" ".join([action.callback, *map(str, action.arguments)]))
                case Answer():
                    self.called.append(f"answer {type(action.message).__name__}")
                case End():
                    self.called.append(f"end {action.reason}")

    def receive(self, *messages: Message) -> None:
        for frame in codec.frames(messages):
            for message in codec.to_scheduler.decode(frame)[1]:
                self.perform(self.core.handle(message, self.now))

    def wait(self, seconds: float) -> None:
        """Let time pass, ticking whenever the core asked to be woken."""
        end = self.now + seconds
        while (deadline := self.core.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            self.perform(self.core.tick(self.now))
        self.now = end
        self.perform(self.core.tick(self.now))

    def register(self, master: str = "M-1") -> None:
        self.receive(FrameworkRegistered(F, master))

    def take_sent(self) -> list[object]:
        sent, self.sent = self.sent, []
        return [*sent, *self.core.acknowledgements()]

    def take_called(self) -> list[str]:
        called, self.called = self.called, []
        return called


@pytest.fixture
def fresh() -> Harness:
    return Harness()


@pytest.fixture
def registered() -> Harness:
    harness = Harness()
    harness.register()
    harness.take_sent()
    harness.take_called()
    return harness


# -- registration -------------------------------------------------------------------------------------------------------


def test_the_first_message_is_a_registration_and_its_answer_is_reported(fresh: Harness) -> None:
    assert fresh.take_sent() == [RegisterFramework(FrameworkInfo("test"))]
    fresh.register()
    assert fresh.take_called() == ["registered F-1 M-1"]
    assert fresh.core.framework_id == F
    assert fresh.take_sent() == []


def test_a_registration_without_an_answer_is_sent_again(fresh: Harness) -> None:
    fresh.take_sent()
    fresh.wait(scheduler_core.REGISTER_INTERVAL_S * 2.5)
    assert fresh.take_sent() == [RegisterFramework(FrameworkInfo("test"))] * 2


def test_a_second_answer_is_not_reported_but_voids_offers_and_settings(
    registered: Harness,
) -> None:
    registered.perform(registered.core.set_needs_offers(False, registered.now))
    registered.receive(ResourceOffers([offer(1)]))
    registered.take_sent()
    registered.take_called()
    registered.register()
    assert registered.take_called() == ["offer_rescinded O-1"]
    assert registered.take_sent() == [SetNeedsOffers(False)]


def test_a_successor_registers_with_the_framework_id_it_was_given() -> None:
    harness = Harness("F-1")
    assert harness.take_sent() == [RegisterFramework(FrameworkInfo("test", F))]
    harness.receive(FrameworkRegistered(F, "M-1", reregistered=True))
    assert harness.take_called() == ["registered F-1 M-1"]


def test_a_ping_is_answered(registered: Harness) -> None:
    registered.receive(Ping())
    assert registered.take_sent() == [Pong()]


def test_a_silent_master_is_reported_and_gets_a_registration_with_the_framework_id(
    registered: Harness,
) -> None:
    registered.receive(ResourceOffers([offer(1), offer(2)]))
    registered.take_called()
    registered.wait(14.9)
    assert registered.take_called() == []
    registered.wait(0.2)
    assert registered.take_called() == ["offer_rescinded O-1", "offer_rescinded O-2", "disconnected"]
    registration = RegisterFramework(FrameworkInfo("test", F), was_active=True, since_s=15.0)
    assert registered.take_sent() == [registration]
    registered.register("M-2")
    assert registered.take_called() == ["reregistered M-2"]


def test_pings_keep_a_registration(registered: Harness) -> None:
    for _ in range(20):
        registered.wait(5)
        registered.receive(Ping())
    assert registered.take_called() == []


def test_the_ping_interval_is_the_masters() -> None:
    harness = Harness()
    harness.receive(FrameworkRegistered(F, "M-1", ping_interval_s=0.5))
    harness.take_called()
    harness.wait(1.6)
    assert harness.take_called() == ["disconnected"]


def test_a_master_that_does_not_know_us_gets_one_registration_for_many_refusals(registered: Harness) -> None:
    registered.receive(NotRegistered(), NotRegistered(), NotRegistered())
    assert registered.take_sent() == [RegisterFramework(FrameworkInfo("test", F), was_active=True)]
    assert registered.take_called() == ["disconnected"]
    registered.register()
    registered.receive(NotRegistered())
    assert registered.take_called() == ["reregistered M-1", "disconnected"]


def test_the_first_connection_changes_nothing(registered: Harness) -> None:
    registered.perform(registered.core.link_changed(True, registered.now))
    assert registered.take_sent() == []


def test_a_lost_connection_is_a_lost_master_and_the_next_one_gets_a_registration(registered: Harness) -> None:
    registered.receive(ResourceOffers([offer(1)]))
    registered.take_called()
    registered.perform(registered.core.link_changed(False, registered.now))
    assert registered.take_called() == ["offer_rescinded O-1", "disconnected"]
    registered.wait(59)
    assert registered.take_sent() == []
    registered.perform(registered.core.link_changed(True, registered.now))
    registration = RegisterFramework(FrameworkInfo("test", F), was_active=True, since_s=59.0)
    assert registered.take_sent() == [registration]
    registered.register()
    assert registered.take_called() == ["reregistered M-1"]


def test_a_connection_that_was_not_reported_gets_a_registration_in_the_end(registered: Harness) -> None:
    registered.perform(registered.core.link_changed(False, registered.now))
    registered.wait(60.1)
    registration = RegisterFramework(FrameworkInfo("test", F), was_active=True, since_s=60.0)
    assert registered.take_sent() == [registration]


def test_a_refusal_is_the_end(registered: Harness) -> None:
    registered.receive(FrameworkRefused(Reason.FRAMEWORK_FAILED_OVER, "another one took over"))
    assert registered.take_called() == ["end FRAMEWORK_FAILED_OVER"]


def test_a_master_that_closes_the_connection_because_of_a_message_is_the_end(registered: Harness) -> None:
    registered.receive(Dropped("it sent nonsense"))
    assert registered.take_called() == ["end MESSAGE_INVALID"]


def test_settings_are_in_every_registration(fresh: Harness) -> None:
    filters = Filters(slave_ids=[S])
    fresh.perform(fresh.core.set_needs_offers(False, fresh.now))
    fresh.perform(fresh.core.set_filters(filters, fresh.now))
    fresh.take_sent()
    for _ in range(2):
        fresh.wait(scheduler_core.REGISTER_INTERVAL_S)
        (registration,) = fresh.take_sent()
        assert isinstance(registration, RegisterFramework)
        assert (registration.needs_offers, registration.filters) == (False, filters)
        fresh.receive(FrameworkRegistered(F, "M-1", heeds_wishes=True))
        assert fresh.take_sent() == []
        fresh.receive(NotRegistered())
        fresh.take_sent()


def test_settings_that_the_registration_did_not_bring_are_sent_after_it(
    fresh: Harness,
) -> None:
    filters = Filters(slave_ids=[S])
    fresh.take_sent()
    fresh.perform(fresh.core.set_needs_offers(False, fresh.now))
    fresh.perform(fresh.core.set_filters(filters, fresh.now))
    assert fresh.take_sent() == []
    fresh.receive(FrameworkRegistered(F, "M-1", heeds_wishes=True))
    assert fresh.take_sent() == [SetNeedsOffers(False), SetFilters(filters)]
    fresh.receive(NotRegistered())
    fresh.take_sent()
    fresh.receive(FrameworkRegistered(F, "an older one"))
    assert fresh.take_sent() == [SetNeedsOffers(False), SetFilters(filters)]


def test_questions_and_reconciliation_wait_for_a_master(fresh: Harness) -> None:
    fresh.take_sent()
    fresh.perform(fresh.core.reconcile_tasks([TaskID("a")], fresh.now))
    fresh.perform(fresh.core.ask_guaranteed_share(fresh.now))
    fresh.register()
    assert fresh.take_sent() == [ReconcileTasks([TaskID("a")]), GetGuaranteedShare()]
    fresh.receive(GuaranteedShare(CPU))
    assert "answer GuaranteedShare" in fresh.take_called()


def test_teardown_and_revive_need_a_master(fresh: Harness) -> None:
    fresh.take_sent()
    fresh.perform(fresh.core.teardown(fresh.now) + fresh.core.revive_offers(fresh.now))
    assert fresh.take_sent() == []
    fresh.register()
    fresh.perform(fresh.core.revive_offers(fresh.now) + fresh.core.teardown(fresh.now))
    assert fresh.take_sent() == [ReviveOffers(), TeardownFramework()]


# -- offers -------------------------------------------------------------------------------------------------------------


def test_an_offer_is_open_until_it_is_answered(registered: Harness) -> None:
    registered.receive(ResourceOffers([offer(1), offer(2), offer(3)]))
    assert set(registered.core.offers) == {"O-1", "O-2", "O-3"}
    registered.perform(registered.core.reply_to_offer([OfferID("O-1")], [task()], 0.0, registered.now))
    registered.perform(registered.core.decline_offer([OfferID("O-2"), OfferID("O-9")], 5.0, registered.now))
    assert set(registered.core.offers) == {"O-3"}
    assert registered.take_sent() == [
        AcceptOffers([OfferID("O-1")], [task()], 0.0),
        DeclineOffers([OfferID("O-2")], 5.0),
    ]


def test_a_rescinded_offer_is_reported_once_and_only_while_it_is_open(registered: Harness) -> None:
    registered.receive(ResourceOffers([offer(1), offer(2)]))
    registered.perform(registered.core.reply_to_offer([OfferID("O-1")], [task()], 0.0, registered.now))
    registered.take_called()
    registered.receive(
        RescindOffer(OfferID("O-1")), RescindOffer(OfferID("O-2")), RescindOffer(OfferID("O-2"))
    )
    assert registered.take_called() == ["offer_rescinded O-2"]


def test_a_lost_slave_rescinds_its_offers_first(registered: Harness) -> None:
    registered.receive(ResourceOffers([offer(1), offer(2, "S-2"), offer(3)]))
    registered.take_called()
    registered.receive(SlaveLost(S), RescindOffer(OfferID("O-1")))
    assert registered.take_called() == ["offer_rescinded O-1", "offer_rescinded O-3", "slave_lost S-1"]
    assert set(registered.core.offers) == {"O-2"}


def test_tasks_for_an_offer_without_a_master_are_lost_at_once(registered: Harness) -> None:
    registered.receive(ResourceOffers([offer()]))
    registered.wait(16)
    registered.take_sent()
    registered.perform(
        registered.core.reply_to_offer([OfferID("O-1")], [task("a"), task("b")], 0.0, registered.now)
    )
    assert [(s.task_id, s.state, s.reason) for s in registered.statuses] == [
        ("a", TaskState.LOST, Reason.OFFER_INVALID),
        ("b", TaskState.LOST, Reason.OFFER_INVALID),
    ]
    assert registered.take_sent() == []


# -- statuses -----------------------------------------------------------------------------------------------------------


def test_statuses_are_acknowledged_together_by_slave_once_delivered(registered: Harness) -> None:
    other = SlaveID("S-2")
    registered.receive(
        status(TaskState.RUNNING, 1, "a"),
        status(TaskState.FINISHED, 1, "b", slave=other),
        status(TaskState.FINISHED, 2, "a"),
    )
    assert registered.take_sent() == [
        Acknowledge(F, S, [(TaskID("a"), 1), (TaskID("a"), 2)]),
        Acknowledge(F, other, [(TaskID("b"), 1)]),
    ]
    assert registered.take_sent() == []


def test_a_status_is_not_acknowledged_before_the_users_code_has_seen_it(registered: Harness) -> None:
    actions = registered.core.handle(status(TaskState.FINISHED), registered.now)
    assert [type(action) for action in actions] == [Deliver]
    assert registered.core.acknowledgements() == []
    registered.perform(actions)
    assert registered.core.acknowledgements() != []


def test_a_repeated_status_is_acknowledged_again_and_dropped(registered: Harness) -> None:
    registered.receive(status(TaskState.RUNNING, 1), status(TaskState.RUNNING, 1))
    registered.receive(
        status(TaskState.FINISHED, 2), status(TaskState.FINISHED, 2), status(TaskState.RUNNING, 1)
    )
    assert [s.state for s in registered.statuses] == [TaskState.RUNNING, TaskState.FINISHED]
    (acknowledge,) = registered.take_sent()
    assert isinstance(acknowledge, Acknowledge)
    assert [sequence for _, sequence in acknowledge.updates] == [1, 1, 2, 2, 1]


def test_a_status_overtaken_by_a_later_one_is_dropped(registered: Harness) -> None:
    registered.receive(status(TaskState.RUNNING, 3), status(TaskState.STAGING, 2))
    assert [s.sequence for s in registered.statuses] == [3]


def test_statuses_made_by_the_master_are_not_acknowledged(registered: Harness) -> None:
    registered.receive(status(TaskState.ERROR, 0, reason=Reason.OFFER_EXCEEDED))
    assert len(registered.statuses) == 1
    assert registered.take_sent() == []


def test_a_status_counts_only_from_the_slave_that_the_task_was_launched_on(registered: Harness) -> None:
    registered.receive(ResourceOffers([offer(1, "S-1"), offer(2, "S-2")]))
    registered.perform(registered.core.reply_to_offer([OfferID("O-1")], [task()], 0.0, registered.now))
    registered.take_sent()
    registered.receive(status(TaskState.FINISHED, 7, slave=SlaveID("S-2")))
    assert registered.statuses == []
    # It must be acknowledged, as it would be repeated for ever.
    assert registered.take_sent() == [Acknowledge(F, SlaveID("S-2"), [(TaskID("t"), 7)])]
    registered.receive(status(TaskState.FINISHED, 1))
    assert [each.sequence for each in registered.statuses] == [1]
    assert not registered.core._tasks._placed


def test_one_terminal_status_of_a_task_is_delivered_whoever_else_sends_one(registered: Harness) -> None:
    registered.receive(
        status(TaskState.LOST, 0, reason=Reason.SLAVE_LOST),
        status(TaskState.RUNNING, 1),
        status(TaskState.FINISHED, 2),
        status(TaskState.LOST, 0, reason=Reason.RECONCILIATION),
    )
    assert [s.state for s in registered.statuses] == [TaskState.LOST]


def test_a_reconciliation_of_a_running_task_is_delivered_each_time(registered: Harness) -> None:
    registered.receive(status(TaskState.RUNNING, 1))
    registered.receive(status(TaskState.RUNNING, 0, reason=Reason.RECONCILIATION))
    registered.receive(status(TaskState.RUNNING, 0, reason=Reason.RECONCILIATION))
    registered.receive(status(TaskState.FINISHED, 2))
    assert len(registered.statuses) == 4


def test_a_duplicate_task_id_does_not_end_the_task_that_had_it_first(registered: Harness) -> None:
    registered.perform(registered.core.reply_to_offer([OfferID("O-1")], [task()], 0.0, registered.now))
    registered.receive(
        status(TaskState.ERROR, 0, reason=Reason.TASK_ID_DUPLICATE), status(TaskState.FINISHED, 1)
    )
    assert [s.state for s in registered.statuses] == [TaskState.ERROR, TaskState.FINISHED]


def test_a_task_id_used_again_after_its_end_is_a_task_of_its_own(registered: Harness) -> None:
    for _ in range(2):
        registered.perform(registered.core.reply_to_offer([OfferID("O-1")], [task()], 0.0, registered.now))
        registered.receive(status(TaskState.FINISHED, 1))
    assert len(registered.statuses) == 2


def test_an_ended_task_is_remembered_however_long_its_slave_was_away(registered: Harness) -> None:
    registered.receive(status(TaskState.FINISHED, 1))
    registered.take_sent()
    for _ in range(200):
        registered.wait(5)
        registered.receive(Ping())
    registered.take_sent()
    registered.receive(status(TaskState.FINISHED, 1))
    assert len(registered.statuses) == 1
    assert registered.take_sent() == [Acknowledge(F, S, [(TaskID("t"), 1)])]


def test_the_memory_of_ended_tasks_is_bounded(registered: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_tasks, "REMEMBER_ENDED", 100)
    for number in range(1000):
        registered.receive(status(TaskState.FINISHED, 1, f"t{number}"))
        registered.wait(0)
    tasks = registered.core._tasks
    assert len(tasks._ended) + len(tasks._ended_before) <= 202
    registered.receive(status(TaskState.FINISHED, 1, "t999"))
    assert len(registered.statuses) == 1000


def test_many_acknowledgements_are_cut_to_messages_that_fit(registered: Harness) -> None:
    for number in range(9_000):
        registered.core.delivered(status(TaskState.FINISHED, 1, f"{number:0128}").status)
    messages = registered.core.acknowledgements()
    assert [len(message.updates) for message in messages if isinstance(message, Acknowledge)] == [
        4000,
        4000,
        1000,
    ]
    assert len(list(codec.frames(messages))) > 1


def test_acknowledgements_wait_for_a_master(registered: Harness) -> None:
    registered.receive(status(TaskState.RUNNING, 1))
    registered.perform(registered.core.lose_master(registered.now))
    assert registered.core.acknowledgements() == []
    registered.register()
    assert registered.core.acknowledgements() == [Acknowledge(F, S, [(TaskID("t"), 1)])]


# -- what may have been lost with a master ------------------------------------------------------------------------------


def test_tasks_in_doubt_are_reconciled_after_a_renewed_registration(registered: Harness) -> None:
    tasks = [task("launched"), task("running"), task("ended")]
    registered.perform(registered.core.reply_to_offer([OfferID("O-1")], tasks, 0.0, registered.now))
    registered.receive(status(TaskState.RUNNING, 1, "running"), status(TaskState.FINISHED, 1, "ended"))
    registered.receive(NotRegistered())
    registered.register("M-2")
    registered.take_sent()
    for _ in range(4):
        registered.wait(4)
        registered.receive(Ping())
    sent = [message for message in registered.take_sent() if not isinstance(message, Pong)]
    assert sent == [ReconcileTasks([TaskID("launched"), TaskID("running")])]


def test_a_kill_is_sent_to_each_new_master_until_the_task_has_ended(registered: Harness) -> None:
    registered.perform(
        registered.core.reply_to_offer([OfferID("O-1")], [task("a"), task("b")], 0.0, registered.now)
    )
    registered.perform(registered.core.kill_task(TaskID("a"), 1.0, registered.now))
    registered.perform(registered.core.kill_task(TaskID("b"), None, registered.now))
    registered.receive(status(TaskState.KILLED, 1, "b"), NotRegistered())
    registered.take_sent()
    registered.register("M-2")
    assert registered.take_sent() == [
        KillTask(F, TaskID("a"), grace_s=1.0),
        Acknowledge(F, S, [(TaskID("b"), 1)]),
    ]


# -- the rest -----------------------------------------------------------------------------------------------------------


def test_lost_executors_and_framework_messages_are_reported(registered: Harness) -> None:
    registered.receive(
        ExecutorLost(S, ExecutorID("e"), -9, "killed"), FrameworkMessage(F, S, ExecutorID("e"), b"hi")
    )
    assert registered.take_called() == ["executor_lost S-1 e -9 killed", "framework_message S-1 e b'hi'"]
    sent = registered.core.send_framework_message(S, ExecutorID("e"), b"yo", registered.now)
    assert sent == [Send(FrameworkMessage(F, S, ExecutorID("e"), b"yo"))]


def test_every_message_to_a_scheduler_has_a_handler(fresh: Harness) -> None:
    assert set(fresh.core._handlers) == set(codec.to_scheduler.types)


EVENTS = st.one_of(
    st.tuples(
        st.sampled_from(list(TaskState)),
        st.integers(0, 4),
        st.sampled_from("ab"),
        st.sampled_from(["", "RECONCILIATION"]),
    ).map(lambda parts: status(*parts)),
    st.just(NotRegistered()),
    st.just(FrameworkRegistered(F, "M")),
    st.just(Ping()),
    st.just(SlaveLost(S)),
    st.integers(1, 3).map(lambda number: ResourceOffers([offer(number)])),
    st.integers(1, 3).map(lambda number: RescindOffer(OfferID(f"O-{number}"))),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 4)), max_size=40))
def test_a_task_ends_exactly_once_and_nothing_is_delivered_after_that(
    events: list[tuple[Message, float]],
) -> None:
    harness = Harness()
    harness.register()
    for message, seconds in events:
        harness.receive(message)
        harness.wait(seconds)
    for name in "ab":
        states = [s.state for s in harness.statuses if s.task_id == name]
        assert not any(state.terminal for state in states[:-1])
        sequences = [s.sequence for s in harness.statuses if s.task_id == name and s.sequence]
        assert sequences == sorted(set(sequences))
