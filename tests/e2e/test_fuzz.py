"""Hostile bytes on every socket of a cluster with keys, before and after the handshake, as each kind of peer.

Whatever is sent, the daemons live, stay within 50 MB of what they had, and serve a well-behaved framework and operator beside
it all the while. `OFFERD_FUZZ_MESSAGES` says how many messages (20,000; a million in `make test-nightly`). Hypothesis makes
the bytes; a failing example is printed as such and repeats.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.cli import wait_until
from helpers.hostile_messages import Choices, Hostile, handshake, http_request
from helpers.keyring import Keyring
from helpers.recorder import COMMAND, Recorder
from offerd import messages as m
from offerd.credentials.keys import Keys, public_of
from offerd.errors import BadMessage
from offerd.ids import ExecutorID, TaskID
from offerd.messages import CommandInfo, ExecutorInfo, TaskState
from offerd.operator import OperatorClient
from offerd.resources import Resources
from offerd.wire import codec
from offerd_cli.local_cluster import LocalCluster

MESSAGES = int(os.environ.get("OFFERD_FUZZ_MESSAGES", "20000"))
BATCH = 25
"""How many messages are sent over one connection."""
GROWTH_BYTES = 50 << 20
SERVED_WITHIN_S = 5.0
"""How long one request of the well-behaved may take. On a quiet machine it is some milliseconds; this is no measurement."""
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
PARTS = {"stranger": 0.1, "handshake": 0.1, "slave": 0.2, "framework": 0.2, "operator": 0.15, "http": 0.1}
"""The share of each kind of peer in all messages; executors get the rest."""

pytestmark = pytest.mark.timeout(120 + MESSAGES // 100)

batches = st.lists(st.binary(min_size=1, max_size=400), min_size=BATCH, max_size=BATCH)


def examples(part: str) -> Any:
    """Hypothesis' settings for this kind of peer's share."""
    return settings(
        max_examples=max(1, int(MESSAGES * PARTS[part]) // BATCH),
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )


class WellBehaved:
    """A framework that runs one short task after another, and an operator who asks: both in threads, until closed."""

    def __init__(self, cluster: LocalCluster, keyring: Keyring) -> None:
        self.faults: list[str] = []
        self.served = 0
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._cluster = cluster
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._run)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with OperatorClient(self._cluster.address, timeout_s=SERVED_WITHIN_S) as client:
            questions = itertools.cycle(
                (
                    client.cluster,
                    lambda: list(client.slaves()),
                    lambda: list(client.frameworks(ended=True)),
                    lambda: list(client.tasks()),
                )
            )
            while not self._stop.wait(0.05):
                self._timed(next(questions))

    def _run(self) -> None:
        number = 0
        with Recorder(self._cluster.address, user=_me()) as framework:
            while not self._stop.wait(0.02):
                number += 1
                name = f"good-{number}"
                framework.run(name, "exit 0")
                self._timed(partial(self._finished, framework, name), 4 * SERVED_WITHIN_S)

    def _finished(self, framework: Recorder, name: str) -> None:
        status = framework.wait_end(name, 4 * SERVED_WITHIN_S)
        assert status.state is TaskState.FINISHED, status

    def _timed(self, what: Callable[[], object], limit_s: float = SERVED_WITHIN_S) -> None:
        began = time.monotonic()
        try:
            what()
        except Exception as error:  # marked: raised by `check`, in the test's own thread
            self.faults.append(repr(error))
        took_s = time.monotonic() - began
        self.served += 1
        self.slowest_s = max(self.slowest_s, took_s)
        if took_s > limit_s:
            self.faults.append(f"served after {took_s:.1f} s")

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Target:
    """The cluster that is attacked, and what must stay true of it."""

    def __init__(self, cluster: LocalCluster, keyring: Keyring) -> None:
        self.cluster = cluster
        self.keyring = keyring
        self.well_behaved = WellBehaved(cluster, keyring)
        self._daemons = {daemon.name: psutil.Process(daemon.pid) for daemon in cluster.daemons()}
        wait_until(lambda: self.well_behaved.served > 20, "the well-behaved to be served")
        self._before = {name: process.memory_info().rss for name, process in self._daemons.items()}
        with cluster.ask() as client:
            (self.slave,) = client.slaves()
        self.known = {
            "slave_id": [self.slave.info.slave_id],
            "framework_id": [f.framework_id for f in self._frameworks()],
            "task_id": ["good-1", "good-2", "victim"],
            "executor_id": ["command"],
            "role": ["*", "science"],
            "user": ["", "nobody", _me()],
        }

    def _frameworks(self) -> list[Any]:
        with self.cluster.ask() as client:
            return list(client.frameworks())

    def check(self) -> None:
        """Check that the daemons run within their memory, and serve others."""
        for daemon in self.cluster.daemons():
            assert daemon.running, f"{daemon.name} {daemon.how_it_ended()}"
        assert self.well_behaved.faults == []

    def check_memory(self) -> None:
        """Check the memory after everything was sent."""
        for name, process in self._daemons.items():
            grown = process.memory_info().rss - self._before[name]
            assert grown < GROWTH_BYTES, f"{name} has grown by {grown >> 20} MB"
        for daemon in self.cluster.daemons():
            assert "Traceback" not in daemon.log.read_text(errors="replace"), daemon.name


def _me() -> str:
    return "" if os.geteuid() else "root"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    keyring = Keyring(tmp_path_factory.mktemp("keys"))
    me = _me()
    keyring.authorize(
        {
            "ops": f'operator = true\nroles = ["*"]\nusers = ["{me}"]',
            "host": "slave = true",
            "rack": "slave = true",
            "alice": f'roles = ["science", "*"]\nusers = ["{me}"]',
            "bob": "operator = true",
        }
    )
    slave_words = ("--key", keyring.file("host"), "--master-key", keyring.public("master"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keyring.environment("ops").items():
            patch.setenv(name, value)
        running = LocalCluster(
            1, cpus="2", mem="1G", isolation="noop",
            master_options=tuple(keyring.master_words()), slave_options=slave_words,
        )  # fmt: skip
        with running:
            target = Target(running, keyring)
            try:
                yield target
                target.check()
                target.check_memory()
            finally:
                target.well_behaved.close()


@contextlib.contextmanager
def peer(address: str, keys: Keys | None) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = context.socket(zmq.DEALER)
    # Nothing is ever read from a peer without a key.
    client.setsockopt(zmq.LINGER, 0 if keys is None else 1000)
    client.setsockopt(zmq.SNDTIMEO, 2000)
    if keys is not None:
        client.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
        client.setsockopt(zmq.CURVE_PUBLICKEY, public_of(keys.secret).encode())
        client.setsockopt(zmq.CURVE_SERVERKEY, keys.master.encode())
    client.connect(address)
    try:
        yield client
    finally:
        client.close()
        context.term()


def send_all(
    target: Target, keys: Keys | None, registrations: list[m.Message], hostile: Hostile, batch: list[bytes]
) -> None:
    """A connection: these registrations, and the hostile frames of a batch."""
    hostile.well_formed = bool(batch[0][0] % 4)
    with peer(f"tcp://{target.cluster.address}", keys) as client, contextlib.suppress(zmq.Again):
        # Again: the receiver may stop reading from this peer.
        if registrations:
            client.send(next(codec.frames(registrations)))
            hostile.known |= learned(client)
        for data in batch:
            client.send(hostile.frame(Choices(data)))
    target.check()


def learned(client: zmq.Socket[bytes]) -> dict[str, list[str]]:
    """The ids in the first answers to a registration: its own, and those of offers."""
    known: dict[str, list[str]] = {}
    while client.poll(2000 if not known else 20):
        frame = client.recv()
        for spoken in (codec.to_scheduler, codec.to_slave):
            with contextlib.suppress(BadMessage):
                for answer in spoken.decode(frame)[1]:
                    if isinstance(answer, m.ResourceOffers):
                        known["offer_ids"] = [offer.offer_id for offer in answer.offers]
                    elif isinstance(answer, m.FrameworkRegistered):
                        known["framework_id"] = [answer.framework_id]
                    elif isinstance(answer, m.SlaveRegistered):
                        known["slave_id"] = [answer.slave_id]
    return known


@settings(parent=examples("stranger"))
@given(batch=batches)
def test_strangers_without_a_key_reach_nothing(target: Target, batch: list[bytes]) -> None:
    send_all(target, None, [], Hostile(codec.to_master, target.known), batch)


@settings(parent=examples("handshake"))
@given(batch=batches)
def test_no_handshake_ends_a_master(target: Target, batch: list[bytes]) -> None:
    host, _, port = target.cluster.address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as client:
        client.settimeout(5)
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            for data in batch:
                client.sendall(handshake(Choices(data)))
    target.check()


@settings(parent=examples("slave"))
@given(batch=batches)
def test_no_slave_ends_the_master(target: Target, batch: list[bytes]) -> None:
    registration = m.RegisterSlave(m.SlaveInfo("rack", Resources.parse("cpus=1,mem=64M")), mode="deactivated")
    send_all(
        target, target.keyring.keys("rack"), [registration], Hostile(codec.to_master, target.known), batch
    )


@settings(parent=examples("framework"))
@given(batch=batches)
def test_no_framework_ends_the_master_or_its_slaves(target: Target, batch: list[bytes]) -> None:
    registration = m.RegisterFramework(m.FrameworkInfo("alice's", role="science", executors=[COMMAND]))
    send_all(
        target, target.keyring.keys("alice"), [registration], Hostile(codec.to_master, target.known), batch
    )


@settings(parent=examples("operator"))
@given(batch=batches)
def test_no_operator_s_question_ends_the_master(target: Target, batch: list[bytes]) -> None:
    """An operator may end frameworks and drain slaves, so these messages name none that exist."""
    hostile = Hostile(
        codec.to_master, {"slave": ["nobody's"], "framework_id": ["F-none"], "framework": ["none"]}
    )
    send_all(target, target.keyring.keys("bob"), [], hostile, batch)


@settings(parent=examples("http"))
@given(batch=batches)
def test_no_request_ends_the_file_server(target: Target, batch: list[bytes]) -> None:
    host, _, port = target.slave.info.files_address.rpartition(":")
    for data in batch:
        with socket.create_connection((host, int(port)), 5) as client:
            client.settimeout(5)
            with contextlib.suppress(ConnectionError, BrokenPipeError, TimeoutError):
                client.sendall(http_request(Choices(data)))
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
                assert b"root:" not in answer
                assert not answer.startswith(b"HTTP/1.1 2"), answer[:200]
    target.check()


def has_ended(framework: Recorder, name: str) -> bool:
    """Whether the task has ended, or its executor."""
    return bool(framework.lost_executors) or any(state.terminal for state in framework.states(name))


def test_no_executor_ends_its_slave(target: Target) -> None:
    share = 1 - sum(PARTS.values())
    # The first invalid message ends an executor, so there are many executors.
    rounds = max(4, int(MESSAGES * share) // 300)
    frames = max(1, int(MESSAGES * share) // rounds)
    for seed in range(rounds):
        program = [sys.executable, str(HELPERS / "fuzz_executor.py"), str(seed), str(frames)]
        own = ExecutorInfo(
            ExecutorID(f"hostile-{seed}"), command=CommandInfo(argv=program), shutdown_grace_s=0.1
        )
        with Recorder(target.cluster.address, executors=(own,), user=_me()) as framework:
            framework.run("hostile", executor_id=own.executor_id)
            wait_until(
                partial(has_ended, framework, "hostile"),
                "the hostile executor to end, or to be ended",
                60 + frames / 100,
            )
        target.check()


def test_a_task_runs_after_all_that(target: Target) -> None:
    with Recorder(target.cluster.address, user=_me()) as framework:
        framework.run("last", "exit 3")
        assert framework.wait_end("last").exit_status == 3
    assert TaskID("last") in framework.statuses
    target.check_memory()
