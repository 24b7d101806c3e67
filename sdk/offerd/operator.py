"""Questions and orders of operators to the master: the clients' side of `offerd.operator_messages`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TypeVar

import msgspec
import zmq

from offerd.cluster_events import ClusterEvent, EventReader
from offerd.core.replica import Replica
from offerd.errors import BadInput, MasterUnreachable, OfferdError
from offerd.files_access import FilesAccess
from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.masters.absence import QUIET_S, MasterWatch, Peer, why_away
from offerd.masters.clusters import Where, resolve
from offerd.masters.detector import find_leader
from offerd.masters.leader import SCHEME, parse_zookeeper, patience_s, unreachable
from offerd.messages import Dropped, Message, NotLeading
from offerd.operator_messages import (
    ChangeSlaveMode,
    Cluster,
    Done,
    EndFramework,
    Enrol,
    Enrolled,
    ExplainFramework,
    ExplainWaiting,
    Explanation,
    Frameworks,
    FrameworkSummary,
    GetCluster,
    GetFrameworks,
    GetKeys,
    GetSlaves,
    GetTasks,
    GetTokens,
    Keys,
    KeySummary,
    KillAnyTask,
    NewToken,
    NotAuthorized,
    RevokeKey,
    RevokeToken,
    Rights,
    Slaves,
    SlaveSummary,
    Tasks,
    TaskSummary,
    Token,
    Tokens,
    Waiting,
)
from offerd.protocol.change_messages import Changes, FollowChanges
from offerd.protocol.recording_messages import EventsRecorded, RecordEvents
from offerd.resources import Resources
from offerd.wire import codec
from offerd.wire.closing import Closing
from offerd.wire.sendable import check
from offerd.wire.transport import Client, new_context
from offerd.workers import check_threads

A = TypeVar("A", bound=Message)

log = logging.getLogger("offerd.operator")

RECORDING_WRITTEN_S = 70.0
"""The master answers at most this long after a recording's time is over, whether or not it could be written."""
LOOK_AGAIN_S = 2.0
"""If the leader that ZooKeeper names does not answer for so long, ask ZooKeeper again."""

FOLLOW_WAIT_S = 5.0
"""How long the master may wait with an answer to a follower, if nothing changes."""

_ANSWERS: dict[type[Message], type[Message]] = {
    GetCluster: Cluster,
    GetSlaves: Slaves,
    GetFrameworks: Frameworks,
    GetTasks: Tasks,
    KillAnyTask: Done,
    EndFramework: Done,
    ChangeSlaveMode: Done,
    ExplainWaiting: Waiting,
    ExplainFramework: Explanation,
    NewToken: Token,
    GetTokens: Tokens,
    RevokeToken: Done,
    Enrol: Enrolled,
    GetKeys: Keys,
    RevokeKey: Done,
    RecordEvents: EventsRecorded,
    FollowChanges: Changes,
}


class OperatorClient(Closing):
    """Asks the master what `offerd status` and the other commands show, and gives it operators' orders.

        with OperatorClient() as client:
            for slave in client.slaves():
                print(slave.info.hostname, slave.state, slave.free)

    * `master`: as for `SchedulerDriver`.
    * `timeout_s`: how long to wait for each answer. None: as long as an election may take if there are several masters,
      else 5 s.

    One question at a time, and not from several threads at once. Every method raises `MasterUnreachable` if no answer comes in
    time, and `OfferdError` if the key may not ask or order this; the constructor raises `BadInput` for an invalid address.
    With a key that is no operator's, a client sees the frameworks of its key's owner, and can end only these.
    """

    tries_on = False
    """Set it when you ask again after `MasterUnreachable`: the log then says what the client waits for."""

    def __init__(self, master: Where = None, *, timeout_s: float | None = None) -> None:
        self.address, self._keys, _ = resolve(master)
        self.timeout_s = patience_s(self.address) if timeout_s is None else timeout_s
        self.shown_owner = ""
        """After a listing of frameworks or tasks: only those of this owner were listed; empty: all were."""
        self._watch = MasterWatch()
        check_threads("the connection to the master")
        self._context = new_context()
        self._client: Client[codec.ToOperator] | None = None
        self._poller = zmq.Poller()
        self.files: dict[SlaveID, FilesAccess] = {}
        """The newest access to the files of each slave that a listing of tasks has named."""

    @property
    def leader(self) -> str:
        """The master that answered last, as `HOST:PORT`; empty before. With several masters, the one that leads."""
        return "" if self._client is None else self._client.address.removeprefix("tcp://")

    @property
    def master_key(self) -> str:
        """The public key by which the master is known; empty where peers have no keys."""
        return "" if self._keys is None else self._keys.master

    def close(self) -> None:
        """Close the connection. May be called twice; leaving a `with` block calls it."""
        self._let_go()
        self._context.term()

    def _let_go(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def ask(self, message: Message, timeout_s: float | None = None, *, wait_s: float = 0.0) -> Message:
        """Send a question of `offerd.operator_messages` and return its answer. Every other method is made of this one. The
        master may wait for `wait_s` seconds, beside `timeout_s`. Raises `BadInput` for a value beyond its bound.
        """
        check(message)
        expected = _ANSWERS[type(message)]
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s) + wait_s
        client, watch = self._connected(deadline), self._watch
        client.send(message)
        client.flush()
        due_at = time.monotonic() + wait_s
        look_again_at = due_at + LOOK_AGAIN_S
        while (left_s := deadline - (now := time.monotonic())) > 0:
            if now >= due_at:
                self._say_absence(watch.turn(False, self._peer))
                pause_s = min(left_s, max(0.0, watch.next_deadline() - now), LOOK_AGAIN_S)
            else:
                pause_s = due_at - now
            self._poller.poll(int(pause_s * 1000) + 1)
            for _ in client.link.changes():
                pass  # it raises when it has failed
            for _, answers in client.drain():
                for answer in answers:
                    if not isinstance(answer, NotLeading):
                        self._say_absence(watch.turn(True, self._peer))
                    if type(answer) is expected:
                        return answer
                    if isinstance(answer, NotAuthorized):
                        raise OfferdError(f"the master refuses: {answer.message}")
                    if isinstance(answer, Dropped):
                        self._let_go()
                        raise OfferdError(f"the master has hung up on this question: {answer.why}")
                    if isinstance(answer, NotLeading):
                        client.close()
                        self._connect(answer.leader)
                        return self.ask(message, deadline - wait_s - time.monotonic(), wait_s=wait_s)
            if client.bad_frames:
                raise OfferdError(
                    f"the server at {self._where()} does not speak our protocol: {client.last_bad}"
                )
            if self._finds_leader and time.monotonic() >= look_again_at:
                look_again_at = time.monotonic() + LOOK_AGAIN_S
                leader = find_leader(parse_zookeeper(self.address), min(left_s, LOOK_AGAIN_S))
                if leader and leader != client.address:
                    client.close()
                    self._connect(leader)
                    return self.ask(message, deadline - wait_s - time.monotonic(), wait_s=wait_s)
        # A late answer to this question would be taken for that to the next one.
        fault = client.link.fault()
        self._let_go()
        raise MasterUnreachable(fault or unreachable(self.address, watch.why))

    def _say_absence(self, lines: list[str]) -> None:
        """Log why there is no answer, if the wait is long. A short question says so in the error it raises."""
        if self.tries_on or self.timeout_s > QUIET_S:
            for line in lines:
                log.warning("%s", line)

    @property
    def _finds_leader(self) -> bool:
        return self.address.startswith(SCHEME)

    def _peer(self) -> Peer:
        assert self._client is not None
        is_linked = self._client.link.is_up
        return Peer(
            self.address, self._client.address, self._keys is not None, is_linked, hears_zookeeper=True
        )

    def _connected(self, deadline: float) -> Client[codec.ToOperator]:
        """The connection to the leader, which is looked for first if there is none."""
        if self._client is None:
            address = self.address
            if self._finds_leader:
                address = self._find(deadline)
            return self._connect(address)
        return self._client

    def _find(self, deadline: float) -> str:
        """Who leads, according to ZooKeeper. Logs why it takes long."""
        watch, nobody = self._watch, Peer(self.address, "", self._keys is not None, is_linked=False)
        while (left_s := deadline - time.monotonic()) > 0:
            if leader := find_leader(parse_zookeeper(self.address), min(left_s, LOOK_AGAIN_S)):
                return leader
            self._say_absence(watch.turn(False, lambda: nobody))
        raise MasterUnreachable(unreachable(self.address, watch.why or why_away(nobody)))

    def _connect(self, address: str) -> Client[codec.ToOperator]:
        client = self._client = Client(
            self._context, address, codec.to_operator, monitored=True, keys=self._keys
        )
        self._poller = zmq.Poller()
        self._poller.register(client.socket, zmq.POLLIN)
        self._poller.register(client.link.socket, zmq.POLLIN)
        return client

    def cluster(self) -> Cluster:
        """The whole cluster in one look: resources, slaves, frameworks, tasks by state."""
        return self._ask(GetCluster(), Cluster)

    def slaves(self) -> Iterator[SlaveSummary]:
        """All slaves, by id. Each page of the listing is asked for when it is needed."""
        question = GetSlaves()
        while True:
            page = self._ask(question, Slaves)
            yield from page.slaves
            if not page.more or not page.slaves:
                return
            question = msgspec.structs.replace(question, after=page.slaves[-1].info.slave_id)

    def slave(self, slave_id: str) -> SlaveSummary | None:
        """One slave, or None if the master knows no slave of this id."""
        return next((slave for slave in self.slaves() if slave.info.slave_id == slave_id), None)

    def frameworks(self, *, ended: bool = False) -> Iterator[FrameworkSummary]:
        """All frameworks, by id; with `ended` also those that have ended and that the master remembers."""
        question = GetFrameworks(ended=ended)
        while True:
            page = self._ask(question, Frameworks)
            self.shown_owner = page.owner
            yield from page.frameworks
            if not page.more or not page.frameworks:
                return
            question = msgspec.structs.replace(question, after=page.frameworks[-1].framework_id)

    def tasks(self, *, framework_id: str = "", ended: bool = True) -> Iterator[TaskSummary]:
        """The tasks of one framework, or of all; with `ended` also those that have ended and that the master remembers."""
        question = GetTasks(framework_id=FrameworkID(framework_id), ended=ended)
        while True:
            page = self._ask(question, Tasks)
            self.shown_owner = page.owner
            self.files.update(page.files)
            yield from page.tasks
            if not page.next_after:
                return
            question = msgspec.structs.replace(question, after=page.next_after)

    def find_task(self, task_id: str) -> list[TaskSummary]:
        """The tasks of this id: one for each framework that has such a task."""
        page = self._ask(GetTasks(task_id=TaskID(task_id)), Tasks)
        self.files.update(page.files)
        return list(page.tasks)

    def kill_task(self, task_id: str, framework_id: str = "") -> None:
        """End a task. The framework must be named if several have a task of this id. Raises `OfferdError` with the master's
        reason if it cannot.
        """
        self._order(KillAnyTask(TaskID(task_id), FrameworkID(framework_id)))

    def end_framework(self, framework: str) -> None:
        """End a framework, named by id or name, with all its tasks and executors; its scheduler is refused from then on. Raises
        `OfferdError` with the master's reason if it cannot.
        """
        done = self._ask(EndFramework(framework), Done)
        if not done.ok:
            raise OfferdError(done.message)

    def change_slave_mode(self, slave: str, mode: str, deadline_s: float | None = None) -> None:
        """Drain (`draining`), deactivate (`deactivated`) or activate (`active`) a slave, named by id or hostname. Tasks that
        still run on a draining slave are ended after `deadline_s` seconds; None: as was set before, or never. Raises
        `OfferdError` with the master's reason if it cannot.
        """
        self._order(ChangeSlaveMode(slave, mode, deadline_s=deadline_s))

    def explain_waiting(
        self, framework_id: str, wanted: Resources, time_limit_s: float | None = None
    ) -> Waiting:
        """Why this framework has no resources for one more task that needs `wanted`, with this time limit in seconds."""
        return self._ask(ExplainWaiting(FrameworkID(framework_id), wanted, time_limit_s), Waiting)

    def explain_framework(self, framework: str) -> Explanation:
        """How long a framework, named by id or name, has been under its share, and why. Raises `BadInput` if there is none, or
        there are several.
        """
        explanation = self._ask(ExplainFramework(framework), Explanation)
        if explanation.problem:
            raise BadInput(explanation.problem)
        return explanation

    def new_token(self, public_key: str, rights: Rights, *, ttl_s: float = 3600.0, uses: int = 1) -> Token:
        """Let others join: whoever has the secret key to this public key may enrol `uses` keys with these rights, within
        `ttl_s` seconds.
        """
        return self._ask(NewToken(public_key, rights, ttl_s, uses), Token)

    def tokens(self) -> Tokens:
        """The tokens that are still good, and how often a join was refused."""
        return self._ask(GetTokens(), Tokens)

    def revoke_token(self, token_id: str) -> None:
        """Let nobody join with this token any more. Raises `OfferdError` with the master's reason if it cannot."""
        self._order(RevokeToken(token_id))

    def enrol(self, name: str, public_key: str) -> Enrolled:
        """Enrol a public key as `name`'s. The client must be connected with a token's key."""
        return self._ask(Enrol(name, public_key), Enrolled)

    def known_keys(self) -> Iterator[KeySummary]:
        """All keys that the master knows, by their owners' names."""
        question = GetKeys()
        while True:
            page = self._ask(question, Keys)
            yield from page.keys
            if not page.more or not page.keys:
                return
            question = msgspec.structs.replace(question, after=page.keys[-1].name)

    def revoke_key(self, name: str) -> None:
        """Take away the rights of this owner's key. Raises `OfferdError` with the master's reason if it cannot."""
        self._order(RevokeKey(name))

    def record_events(self, for_s: float, slave: str = "") -> EventsRecorded:
        """Have the master, or a slave named by id or hostname, record what it does for `for_s` seconds, and wait for the
        recording. Raises `OfferdError` with the reason if there is none.
        """
        answer = self.ask(RecordEvents(for_s, slave), self.timeout_s + for_s + RECORDING_WRITTEN_S)
        assert isinstance(answer, EventsRecorded)
        if answer.fault:
            raise OfferdError(answer.fault)
        return answer

    def changes(self, replica: Replica, *, wait_s: float = FOLLOW_WAIT_S) -> Changes:
        """What has changed since the last answer that was put into `replica`; everything, if none was. The caller gives the
        answer to `replica.apply`. The master answers after `wait_s` seconds at the latest, then with nothing new. After
        `MasterUnreachable` ask again with the same replica: it goes on from there, with any master.
        """
        changes = self.ask(replica.question(wait_s), wait_s=wait_s)
        assert isinstance(changes, Changes)  # `ask` returns no other; for the type checker
        self.shown_owner = changes.owner
        return changes

    def events(
        self, reader: EventReader | None = None, *, wait_s: float = FOLLOW_WAIT_S
    ) -> Iterator[list[ClusterEvent]]:
        """What happens in the cluster, for ever, after what the master remembers of the past. Each list is what is new in
        one answer, the oldest event first, and may be empty. `reader.replica` is up to date with it; once its `is_current` is
        true, the past is complete. `wait_s` and `MasterUnreachable` are as for `changes`.
        """
        known = EventReader() if reader is None else reader
        while True:
            yield known.read(self.changes(known.replica, wait_s=wait_s))

    def _order(self, message: Message) -> None:
        done = self._ask(message, Done)
        if not done.ok:
            raise OfferdError(done.message)

    def _ask(self, question: Message, kind: type[A]) -> A:
        answer = self.ask(question)
        assert isinstance(answer, kind)  # `ask` returns no other; for the type checker
        return answer

    def _where(self) -> str:
        address = self.address if self._client is None else self._client.address
        return address.removeprefix("tcp://")
