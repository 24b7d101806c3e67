"""How an executor has its tasks born in their cgroups, and killed there: what it says to the spawner that the slave gives it.

An executor may not do this by itself (`offerd_slave.launch.spawner` says why). Where tasks have cgroups of their own its
environment names, in `OFFERD_SPAWNER`, a socket and the process behind it, as `FD:PID`. That process is a child of the
executor, and so is whatever it starts. It ends when the socket is closed: an executor that has no use for it closes that.

    executor -> spawner    4 bytes length, MessagePack of `Spawn` or `Kill`; with the first byte of a `Spawn` two descriptors:
                           stdout and stderr
    spawner -> executor    4 bytes length, MessagePack of `Born` or `NotBorn`; of `Killed`
"""

from __future__ import annotations

import _socket
import errno
import struct

import msgspec

SPAWNER = "OFFERD_SPAWNER"
LENGTH = struct.Struct("<I")
READ_BYTES = 64 << 10
LINE_BYTES = 256
"""So much of a program is looked at, to tell a text from another machine's instructions."""
_TWO_FDS = struct.Struct("@ii")
_ANCILLARY_BYTES = _socket.CMSG_SPACE(_TWO_FDS.size)


SHELL = b"/bin/sh"


class Spawn(msgspec.Struct, array_like=True, tag=True):
    """One program to start in a session of its own, in the cgroup `leaf` of the container's tasks; `environment` as the
    kernel wants it, NAME=VALUE each.

    `alone`: not even for the moment before its exec in the spawner's memory. For a task with hardly any: were it killed for
    that in just this moment, the kernel would kill all who share it.
    """

    leaf: str
    cwd: bytes
    program: bytes
    argv: list[bytes]
    environment: list[bytes]
    alone: bool = False
    umask: int = 0o022


class Kill(msgspec.Struct, array_like=True, tag=True):
    """SIGKILL to everything in the cgroup `leaf` of the container's tasks, at once: nothing escapes by forking."""

    leaf: str


class Killed(msgspec.Struct, array_like=True, tag=True):
    """Whether that could be done: not before Linux 5.14."""

    could: bool


class Born(msgspec.Struct, array_like=True, tag=True):
    """It has been started: a child of the executor."""

    pid: int


class NotBorn(msgspec.Struct, array_like=True, tag=True):
    """It has not: `what` (empty: the program or its directory) could not be used. With a `pid` a dead child is to be reaped."""

    errno: int
    what: str
    pid: int = 0


def write_frame(socket: _socket.socket, data: bytes, fds: tuple[int, int] | None = None) -> None:
    """Send it all, the descriptors with its beginning. Raises `OSError`."""
    packet = LENGTH.pack(len(data)) + data
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _TWO_FDS.pack(*fds))] if fds is not None else []
    sent = socket.sendmsg([packet], ancillary)
    if sent < len(packet):
        socket.sendall(packet[sent:])


def read_frame(socket: _socket.socket) -> tuple[bytes | None, list[int]]:
    """The next one, with its descriptors; None at the end. Raises `OSError`."""
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


def as_script(program: bytes, argv: list[bytes], error: OSError) -> list[bytes]:
    """The words that run a program which the kernel cannot start: as execvp(3) has it, a text without
    `#!` is a script for the shell. Raises `error` where it is not that.
    """
    if error.errno != errno.ENOEXEC:
        raise error
    try:
        with open(program, "rb") as file:
            first_line = file.readline(LINE_BYTES)
    except OSError:
        raise error from None
    if b"\0" in first_line:
        raise error
    return [SHELL, b"./" + program if program.startswith(b"-") else program, *argv[1:]]
