"""The spawner starts an executor's tasks, each in its own cgroup from the first instruction, and kills them there.

It is a fork of the future executor, before that drops root. The executor cannot do this itself: it has threads (ZeroMQ's),
so a fork by a raw system call would be unsound; and its user may not put a process into a cgroup of another user, as with
that right tasks could also leave their cgroups. So the spawner stays small, single-threaded and root. A process that it
starts becomes the container's user, in the task's cgroup, before the task's program runs. The executor is the parent of
these processes (CLONE_PARENT).

It trusts no request: a task that has taken over the executor can only use it to do, in a task's cgroup, what the executor's
user may do anyway.
"""

from __future__ import annotations

import _socket
import errno
import mmap
import os
import sys
from typing import NoReturn

import msgspec

from offerd.protocol.spawner_messages import (
    SPAWNER,
    Born,
    Kill,
    Killed,
    NotBorn,
    Spawn,
    read_frame,
    write_frame,
)
from offerd.tasks.task_cgroups import TASK_CGROUPS
from offerd_linux import clone, inherited, prctl, vfork
from offerd_slave.directory_walk import OPEN_DIRECTORY
from offerd_slave.launch.messages import LaunchRequest
from offerd_slave.users import Credentials

_decode = msgspec.msgpack.Decoder(Spawn | Kill).decode


def start_spawner(request: LaunchRequest) -> int | None:
    """Fork a spawner, if the container has cgroups for tasks. Returns the executor's end of its socket, and puts its number
    into the request's environment. Must be called before the executor drops its rights. Raises `OSError`."""
    tasks = request.environment.get(TASK_CGROUPS, "")
    # The framework can set environment variables, and this path is opened as root.
    if not request.cgroup or tasks != f"{os.path.dirname(request.cgroup)}/tasks":
        return None
    directory = os.open(tasks, OPEN_DIRECTORY)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        try:
            _serve(ours.detach(), directory, request.credentials)
        except BaseException as error:  # marked: a broken spawner must leave a trace, in its executor's log
            os.write(2, f"spawner: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    os.close(directory)
    ours.close()
    fd = theirs.detach()
    request.environment[SPAWNER] = f"{fd}:{pid}"
    return fd


def _serve(number: int, directory: int, credentials: Credentials | None) -> NoReturn:
    """Serve requests until the executor ends or closes its end of the socket."""
    prctl.set_name(b"offerd-spawner")
    # Tasks inherit all of this.
    prctl.forbid_new_privileges()
    inherited.reset_signals()
    inherited.close_all_but({number, directory})
    socket = _socket.socket(fileno=number)
    spawner = _Spawner(directory, credentials)
    while True:
        packet, fds = read_frame(socket)
        if packet is None:
            os._exit(0)
        request = _decode(packet)
        answer = spawner.kill(request) if isinstance(request, Kill) else spawner.spawn(request, fds)
        for fd in fds:
            os.close(fd)
        write_frame(socket, msgspec.msgpack.encode(answer))


class _Spawner:
    def __init__(self, directory: int, credentials: Credentials | None) -> None:
        self._directory = directory
        self._credentials = credentials
        self._run = vfork.load()
        self._trouble = mmap.mmap(-1, 4)  # shared with forks

    def spawn(self, request: Spawn, fds: list[int]) -> Born | NotBorn:
        """Start a task's process."""
        if not _is_leaf(request.leaf) or len(fds) != 2:
            return NotBorn(errno.EINVAL, "an invalid request")
        try:
            leaf = os.open(request.leaf, OPEN_DIRECTORY, dir_fd=self._directory)
        except OSError as error:
            return NotBorn(error.errno or errno.EIO, f"its cgroup {request.leaf}")
        os.umask(request.umask & 0o777)  # inherited by the task
        try:
            pid, trouble = self._vfork(request, fds, leaf)
            if pid < 0:
                pid, trouble = self._fork(request, fds, leaf)
        except OSError as error:
            return NotBorn(error.errno or errno.EIO, f"a process in its cgroup {request.leaf}")
        except ValueError:
            return NotBorn(errno.EINVAL, "")
        finally:
            os.close(leaf)
        return NotBorn(trouble, "", pid) if trouble else Born(pid)

    def kill(self, request: Kill) -> Killed:
        """Kill everything in a task's cgroup. The executor cannot: its user may not write `cgroup.kill`, as tasks of that user
        could then kill each other."""
        if not _is_leaf(request.leaf):
            return Killed(could=False)
        try:
            leaf = os.open(request.leaf, OPEN_DIRECTORY, dir_fd=self._directory)
        except OSError:
            return Killed(could=False)
        try:
            file = os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=leaf)
        except OSError:  # before Linux 5.14
            return Killed(could=False)
        finally:
            os.close(leaf)
        try:
            os.write(file, b"1")
        except OSError:  # ENODEV: removed meanwhile
            return Killed(could=False)
        finally:
            os.close(file)
        return Killed(could=True)

    def _vfork(self, request: Spawn, fds: list[int], leaf: int) -> tuple[int, int]:
        """Start it by vfork. Returns its pid, or a number below 0 if vfork cannot be used here; and the errno of a failed
        start, or 0."""
        if self._run is None or request.alone:
            return -1, 0
        calls = vfork.Calls()
        if self._credentials is not None:
            uid, gid, groups = self._credentials
            calls.add_setgroups(groups)
            calls.add(vfork.SETRESGID, gid, gid, gid)
            calls.add(vfork.SETRESUID, uid, uid, uid)
        calls.add(vfork.SETSID)
        calls.add(vfork.CHDIR, request.cwd)
        calls.add(vfork.DUP2, fds[0], 1)
        calls.add(vfork.DUP2, fds[1], 2)
        calls.add(vfork.EXECVE, request.program, request.argv, request.environment)
        pid, trouble = calls.run(self._run, clone.vfork_arguments(leaf))
        if pid < 0 and -pid not in clone.OLD_KERNEL:
            raise OSError(-pid, os.strerror(-pid))
        return pid, trouble

    def _fork(self, request: Spawn, fds: list[int], leaf: int) -> tuple[int, int]:
        environment = dict(line.split(b"=", 1) for line in request.environment)
        self._trouble[:] = bytes(4)
        pid = clone.spawn_into(leaf)
        if pid == 0:
            self._become(request, fds, environment)
        return pid, int.from_bytes(self._trouble[:], sys.byteorder)

    def _become(self, request: Spawn, fds: list[int], environment: dict[bytes, bytes]) -> NoReturn:
        """In the child: become the task's program."""
        try:
            if self._credentials is not None:
                uid, gid, groups = self._credentials
                os.setgroups(groups)
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            os.setsid()
            os.chdir(request.cwd)
            os.dup2(fds[0], 1)
            os.dup2(fds[1], 2)
            os.execve(request.program, request.argv, environment)
        except OSError as error:
            self._trouble[:] = (error.errno or errno.EIO).to_bytes(4, sys.byteorder)
        except ValueError:  # a NUL or a `=` where none is allowed
            self._trouble[:] = errno.EINVAL.to_bytes(4, sys.byteorder)
        finally:
            os._exit(127)


def _is_leaf(name: str) -> bool:
    return "/" not in name and name not in ("", ".", "..")
