"""What the slave, its zygote and the shims say to each other about one launch.

Each is one packet on a SOCK_SEQPACKET pair. A launch is answered by the shim itself, once it is what it should be (own
session, cgroup, user) and holds the container's `shim` file. That file is made with O_EXCL: so a launch that is asked
for twice, because the zygote died in between, never runs twice. Imports next to nothing: a part of every shim.
"""

from __future__ import annotations

import msgspec

from offerd_slave.users import Identity


class EnterContainer(msgspec.Struct, frozen=True, array_like=True):
    """The container of this process (of this boot), and directories of its cgroups."""

    pid: int
    start_ticks: int
    cgroups: list[str]


class Job(msgspec.Struct, frozen=True, array_like=True):
    """A `LaunchSpec`, as the zygote reads it: paths as text, the user as numbers."""

    container_id: str
    container_dir: str
    sandbox: str
    module: str
    argv: list[str]
    environment: dict[str, str]
    identity: Identity | None
    cgroup: str
    log_bytes: int
    enter: EnterContainer | None = None


class ShimIdentity(msgspec.Struct, frozen=True):
    """What the file `shim` says."""

    boot_id: str
    pid: int
    start_ticks: int


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Root of what comes back to the slave."""


class ZygoteReady(Answer, frozen=True):
    """It has imported what it needs."""


class ShimStarted(Answer, frozen=True):
    """By the shim."""

    container_id: str
    shim: ShimIdentity


class ShimFailed(Answer, frozen=True):
    """By the shim or the zygote: the launch is over."""

    container_id: str
    message: str


class ShimEnded(Answer, frozen=True):
    """By the zygote, of every shim: if it has not answered by now it never will."""

    container_id: str
    message: str


Answers = ZygoteReady | ShimStarted | ShimFailed | ShimEnded
MAX_PACKET_BYTES = 128 << 10
"""Largest launch. The kernel keeps a packet in one piece and bounds it by the socket's send buffer (208 KiB)."""
