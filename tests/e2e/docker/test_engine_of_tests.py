"""The engine of these tests leaves nothing, however it has ended."""

from __future__ import annotations

import os
import signal

import pytest

from helpers.docker_engine import SMALL, engine
from helpers.docker_sweep import mounts, processes

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("live_restore", [True, False])
@pytest.mark.parametrize("number", [0, signal.SIGKILL, signal.SIGSTOP])
def test_nothing_is_left_of_an_engine_with_a_container(live_restore: bool, number: int) -> None:
    with engine(live_restore=live_restore) as made:
        with made.api() as api:
            api.containers.run(SMALL, ["sleep", "600"], detach=True, network_mode="none")
        assert len(processes(made.root)) >= 4, "dockerd, containerd, shim, sleep"
        assert mounts(made.root)
        os.kill(made.pid, number)
    assert processes(made.root) == []
    assert mounts(made.root) == []
    assert not made.root.exists()
