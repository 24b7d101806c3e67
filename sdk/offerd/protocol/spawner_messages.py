"""How an executor has its tasks started in their cgroups, and killed there: the messages to its spawner.

An executor may not do this by itself (`offerd_slave.launch.spawner` says why). Where tasks have cgroups of their own, its
environment names a socket and the spawner process behind it in `OFFERD_SPAWNER`, as `FD:PID`. That process is a child of the
executor, and so is everything that it starts. It ends when the socket is closed; an executor that does not need it closes it.

    executor -> spawner    4 bytes length, MessagePack of `Spawn` or `Kill`; the first byte of a `Spawn` carries two
                           descriptors, stdout and stderr
    spawner -> executor    4 bytes length, MessagePack of `Born` or `NotBorn`, or of `Killed`
"""

from __future__ import annotations

import _socket
import struct

import msgspec

SPAWNER = "OFFERD_SPAWNER"
LENGTH = struct.Struct("<I")
READ_BYTES = 64 << 10
_TWO_FDS = struct.Struct("@ii")
_ANCILLARY_BYTES = _socket.CMSG_SPACE(_TWO_FDS.size)


class Spawn(msgspec.Struct, array_like=True, tag=True):
    """Start one program in a session of its own, in the cgroup `leaf` of the container's tasks. `environment` as the kernel
    takes it: NAME=VALUE each.

    `alone`: do not share the spawner's memory, not even until the exec. This is for tasks with very little memory: if the
    kernel killed such a task for that in this moment, it would kill all processes that share the memory.
    """

    leaf: str
    cwd: bytes
    program: bytes
    argv: list[bytes]
    environment: list[bytes]
    alone: bool = False
    umask: int = 0o022


class Kill(msgspec.Struct, array_like=True, tag=True):
    """Send SIGKILL to everything in the cgroup `leaf` of the container's tasks, at once: nothing escapes by forking."""

    leaf: str


class Killed(msgspec.Struct, array_like=True, tag=True):
    """Whether that was possible; it is not before Linux 5.14."""

    could: bool


class Born(msgspec.Struct, array_like=True, tag=True):
    """The program was started, as a child of the executor."""

    pid: int


class NotBorn(msgspec.Struct, array_like=True, tag=True):
    """It was not started: `what` (empty: the program or its directory) cannot be used. With a `pid`, reap that dead child."""

    errno: int
    what: str
    pid: int = 0


def write_frame(socket: _socket.socket, data: bytes, fds: tuple[int, int] | None = None) -> None:
    """Send all of it, with the descriptors at its beginning. Raises `OSError`."""
    packet = LENGTH.pack(len(data)) + data
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _TWO_FDS.pack(*fds))] if fds is not None else []
    sent = socket.sendmsg([packet], ancillary)
    if sent < len(packet):
        socket.sendall(packet[sent:])


def read_frame(socket: _socket.socket) -> tuple[bytes | None, list[int]]:
    """The next frame with its descriptors; None at the end. Raises `OSError`."""
    data, ancillary, _, _ = socket.recvmsg(READ_BYTES, _ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind, len(content)) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _TWO_FDS.size):
            fds = list(_TWO_FDS.unpack(content))
    while data and (len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]):
        more = socket.recv(READ_BYTES)
        data = data + more if more else b""
    if not data:
        return None, fds
    return data[LENGTH.size :], fds
