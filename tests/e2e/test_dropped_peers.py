"""A peer that sends the master an invalid message is dropped with the reason, and no other is affected."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import offerd
from helpers.cli import wait_until
from helpers.recorder import Recorder
from offerd.messages import Reason, TaskState
from offerd.wire import codec, transport
from offerd_cli.local_cluster import LocalCluster


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slaves=1, cpus="2", mem="512M", isolation="noop") as cluster:
        yield cluster


FAULTY_SLAVE = """
import sys
from offerd.wire import transport
from offerd_cli.main import main

frames = transport.frames
transport.frames = lambda *arguments, **options: (
    frame.replace(b"SlaveUsage", b"SlaveUsing") for frame in frames(*arguments, **options)
)
sys.exit(main(sys.argv[1:]))
"""


def test_a_dropped_scheduler_and_slave_are_given_the_reason(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = codec.frames

    def frames(
        messages: list[offerd.messages.Message], *arguments: object, **options: object
    ) -> Iterator[bytes]:
        for frame in encoded(messages, *arguments, **options):  # type: ignore[arg-type]
            yield frame.replace(b"KillTask", b"KillTusk")

    with Recorder(cluster.address) as other:
        other.run("stays", "sleep 600", limit_s=None)
        other.wait("stays", TaskState.RUNNING)
        faulty = Recorder(cluster.address)
        faulty.driver.start()
        faulty.driver.wait_registered(Recorder.patience_s)
        monkeypatch.setattr(transport, "frames", frames)
        faulty.driver.kill_task("t")
        with pytest.raises(
            offerd.FrameworkError, match=r"has closed the connection to this scheduler: .*KillTusk"
        ) as caught:
            assert faulty.driver.join(Recorder.patience_s), "it has ended"
        assert caught.value.reason == Reason.MESSAGE_INVALID
        assert "\n" not in str(caught.value)
        monkeypatch.undo()

        slave = cluster.slaves[0]
        slave.program = [sys.executable, "-P", "-c", FAULTY_SLAVE]
        cluster.restart_slave(0)
        wait_until(
            lambda: "the master has hung up on this slave: " in slave.log.read_text(), "the slave to say so"
        )
        assert "SlaveUsing" in slave.log.read_text()
        assert slave.running
        assert other.states("stays") == [TaskState.RUNNING]
