"""Messages between the slave, its zygote and the shims about one launch.

Each is one packet on a SOCK_SEQPACKET pair. The shim itself answers a launch request, once it is set up (own session,
cgroup, user) and owns the container's `shim` file. That file can be made only once: so a launch that is requested
twice, because the zygote died in between, never runs twice. Imports next to nothing, as every shim imports it.
"""

from __future__ import annotations

import msgspec

from offerd_linux.process_ids import ProcessID
from offerd_slave.users import Credentials


class EnterContainer(msgspec.Struct, frozen=True, array_like=True):
    """The container whose first process this is (in this boot), and the directories of its cgroups."""

    pid: int
    start_ticks: int
    cgroups: list[str]


class LaunchRequest(msgspec.Struct, frozen=True, array_like=True):
    """A `LaunchSpec` as it is sent to the zygote: paths are text."""

    container_id: str
    container_dir: str
    sandbox: str
    module: str
    argv: list[str]
    environment: dict[str, str]
    credentials: Credentials | None
    cgroup: str
    log_bytes: int
    enter: EnterContainer | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of the answers to the slave."""


class ZygoteReady(Answer, frozen=True):
    """The zygote has imported what it needs."""


class ShimStarted(Answer, frozen=True):
    """From the shim: it runs, and starts the executor next."""

    container_id: str
    shim: ProcessID


class ShimFailed(Answer, frozen=True):
    """From the shim or the zygote: the launch has failed."""

    container_id: str
    message: str


class ShimEnded(Answer, frozen=True):
    """From the zygote, when a shim has ended: a launch that the shim has not answered has failed."""

    container_id: str
    message: str


Answers = ZygoteReady | ShimStarted | ShimFailed | ShimEnded
MAX_PACKET_BYTES = 128 << 10
"""Largest launch request. The kernel keeps a packet in one piece, which must fit into the socket's send buffer (208 KiB)."""
