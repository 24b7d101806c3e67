"""Operators' questions: pages are put together, and a master that does not answer is an error of one line."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from msgspec.structs import replace

from helpers import wire
from helpers.cli import wait_until
from helpers.fake_master import FakeMaster
from offerd.errors import BadInput, MasterUnreachable, OfferdError
from offerd.ids import FrameworkID, PeerID, SlaveID, TaskID
from offerd.masters import absence
from offerd.messages import Message, SlaveInfo
from offerd.operator import _ANSWERS, OperatorClient
from offerd.operator_messages import (
    Cluster,
    Done,
    Frameworks,
    FrameworkSummary,
    GetCluster,
    GetFrameworks,
    GetSlaves,
    GetTasks,
    KillAnyTask,
    Slaves,
    SlaveSummary,
    Tasks,
    TaskSummary,
    Waiting,
)
from offerd.protocol.change_messages import FollowChanges
from offerd.protocol.recording_messages import RecordEvents
from offerd.resources import Resources
from offerd.wire import codec


class Answering(FakeMaster):
    """Answers every question with the next of `answers`."""

    def __init__(self, *answers: Message) -> None:
        super().__init__()
        self.answers = list(answers)

    def handle(self, peer: PeerID, message: Any) -> None:
        if self.answers:
            self._server.send(peer, self.answers.pop(0))


@pytest.fixture
def silent() -> Iterator[FakeMaster]:
    with Answering() as master:
        yield master


def slave(number: int) -> SlaveSummary:
    return SlaveSummary(SlaveInfo("host", Resources(), SlaveID(f"S-{number}")), "active")


def framework(number: int) -> FrameworkSummary:
    return FrameworkSummary(FrameworkID(f"F-{number}"), "name", "*", "", "active")


def task(number: int) -> TaskSummary:
    sample: TaskSummary = wire.sample(TaskSummary)
    return replace(sample, task_id=TaskID(str(number)))


def test_listings_are_put_together_from_their_pages() -> None:
    answers = (
        Slaves([slave(1), slave(2)], more=True),
        Slaves([slave(3)]),
        Frameworks([framework(1)], more=True),
        Frameworks([framework(2)]),
        Tasks([task(1)], next_after="1"),
        Tasks([task(2)]),
    )
    with Answering(*answers) as master, OperatorClient(master.address) as client:
        assert list(client.slaves()) == [slave(1), slave(2), slave(3)]
        assert list(client.frameworks(ended=True)) == [framework(1), framework(2)]
        assert list(client.tasks(framework_id=FrameworkID("F-1"), ended=False)) == [task(1), task(2)]
        assert master.received == [
            GetSlaves(), GetSlaves(after=SlaveID("S-2")),
            GetFrameworks(ended=True), GetFrameworks(after=FrameworkID("F-1"), ended=True),
            GetTasks(framework_id=FrameworkID("F-1"), ended=False),
            GetTasks("1", framework_id=FrameworkID("F-1"), ended=False),
        ]  # fmt: skip


def test_an_empty_page_that_promises_more_is_the_last() -> None:
    with Answering(Slaves([], more=True)) as master, OperatorClient(master.address) as client:
        assert list(client.slaves()) == []


def test_single_questions_have_single_answers() -> None:
    cluster: Cluster = wire.sample(Cluster)
    answers = (cluster, Slaves([slave(1), slave(2)]), Tasks([task(7)]), Waiting("no_slaves", "none"))
    with Answering(*answers) as master, OperatorClient(master.address) as client:
        assert client.cluster() == cluster
        assert client.slave(SlaveID("S-2")) == slave(2)
        assert client.find_task(TaskID("7")) == [task(7)]
        assert client.explain_waiting(FrameworkID("F"), Resources()).why == "no_slaves"


def test_a_refused_kill_raises_with_the_masters_reason() -> None:
    with (
        Answering(Done(True), Done(False, "no such task")) as master,
        OperatorClient(master.address) as client,
    ):
        client.kill_task(TaskID("t"))
        with pytest.raises(OfferdError, match="no such task"):
            client.kill_task(TaskID("t"), FrameworkID("F"))
        assert master.received == [KillAnyTask(TaskID("t")), KillAnyTask(TaskID("t"), FrameworkID("F"))]


def test_a_master_that_does_not_answer_is_one_line_with_its_address(silent: FakeMaster) -> None:
    with OperatorClient(silent.address, timeout_s=0.05) as client, pytest.raises(OfferdError) as caught:
        client.cluster()
    message = str(caught.value)
    assert silent.address.removeprefix("tcp://") in message
    assert len(message.splitlines()) == 1


def test_a_late_answer_is_not_taken_for_that_of_the_next_question(silent: FakeMaster) -> None:
    late: Cluster = wire.sample(Cluster)
    with OperatorClient(silent.address) as client:
        with pytest.raises(OfferdError):
            client.ask(GetCluster(), timeout_s=0.05)
        silent.send(late)
        silent.handle = lambda peer, message: silent.send(replace(late, version="new"), peer)  # type: ignore[method-assign]
        assert client.cluster().version == "new"


def test_another_protocol_is_an_error_that_says_so() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.ROUTER)
    port = stranger.bind_to_random_port("tcp://127.0.0.1")
    try:
        with OperatorClient(f"127.0.0.1:{port}", timeout_s=5) as client:

            def answer() -> None:
                peer, _ = stranger.recv_multipart()
                stranger.send_multipart([peer, b"HTTP/1.1 400 Bad Request"])

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(OfferdError, match="does not speak our protocol"):
                client.cluster()
            thread.join()
    finally:
        stranger.close(linger=0)
        context.term()


def test_a_bad_address_is_bad_input() -> None:
    with pytest.raises(BadInput):
        OperatorClient("host:port")


def test_every_question_of_the_protocol_has_its_answer() -> None:
    modules = {"offerd.operator_messages", "offerd.protocol.key_messages"}
    questions = {kind for kind in codec.to_master.types if kind.__module__ in modules}
    assert questions | {RecordEvents, FollowChanges} == set(_ANSWERS)


def fault_of(client: OperatorClient) -> str:
    """The error of a question of this client that nobody answers."""
    with pytest.raises(MasterUnreachable) as fault:
        client.cluster()
    return str(fault.value)


def test_a_client_that_keeps_trying_logs_once_what_it_waits_for_and_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "LOOK_AFTER_S", 0.05)
    monkeypatch.setattr(absence, "LOOK_EVERY_S", 0.05)
    answer: Cluster = wire.sample(Cluster)
    with Answering() as master, OperatorClient(master.address, timeout_s=0.5) as client:
        wait_until(lambda: "is connected, but does not answer" in fault_of(client), "it is found out why")
        assert not caplog.messages, "a client that asks once gets only the error"
    with Answering() as master, OperatorClient(master.address, timeout_s=0.5) as client:
        client.tries_on = True
        wait_until(lambda: fault_of(client) and caplog.messages, "it is said")
        fault_of(client)
        said = [line.partition(": ")[2] for line in caplog.messages]
        # On a busy host, the first probe may come before the connection, or before the server has said what it is.
        assert all(line.endswith("does not answer; still trying") for line in said)
        assert all(line != before for line, before in itertools.pairwise(said))
        master.answers = [answer]
        assert client.cluster() == answer
        assert caplog.messages[-1].startswith("a master answers, after ")
