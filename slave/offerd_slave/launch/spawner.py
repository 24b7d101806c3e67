"""The spawner: makes an executor's tasks, each born in its cgroup, and kills them there.

A fork of what will be the executor, before it drops root. An executor cannot do this itself. It has threads (ZeroMQ's),
and a fork of it by a raw system call would be unsound; and as an unprivileged user it may not put a process into a cgroup
that is not its user's: whoever may do that may also leave. So the spawner stays small, single-threaded and root, and what
it starts becomes the container's user, in a cgroup of the container's tasks, before the first of its instructions.
Children are the executor's, not its own (CLONE_PARENT).

It trusts no request: whoever has taken over the executor gets from it only what the executor's user may do, in a task's cgroup.
"""

from __future__ import annotations

import _socket
import errno
import mmap
import os
import sys
from typing import NoReturn

import msgspec

from offerd.tasks.task_cgroups import TASK_CGROUPS
from offerd.wire.spawner_messages import SPAWNER, Born, Kill, Killed, NotBorn, Spawn, read_frame, write_frame
from offerd_linux import clone, inherited, prctl, vfork
from offerd_slave.launch.messages import Job
from offerd_slave.users import Identity

_decode = msgspec.msgpack.Decoder(Spawn | Kill).decode
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def start_spawner(job: Job) -> int | None:
    """Fork one, if the container has cgroups for tasks. Returns the executor's end of its socket, and puts its number
    into the job's environment. Needs the launching user's rights. Raises `OSError`."""
    tasks = job.environment.get(TASK_CGROUPS, "")
    # The framework has a say in the environment, and we open this as root.
    if not job.cgroup or tasks != f"{os.path.dirname(job.cgroup)}/tasks":
        return None
    directory = os.open(tasks, DIRECTORY)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        try:
            _serve(ours.detach(), directory, job.identity)
        except BaseException as error:  # marked: a broken spawner must leave a trace, in its executor's log
            os.write(2, f"spawner: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    os.close(directory)
    ours.close()
    fd = theirs.detach()
    job.environment[SPAWNER] = f"{fd}:{pid}"
    return fd


def _serve(number: int, directory: int, identity: Identity | None) -> NoReturn:
    """Until the executor has gone, or closes its end."""
    prctl.set_name(b"offerd-spawner")
    # What a task is to have, once for all: it inherits it.
    prctl.forbid_new_privileges()
    inherited.reset_signals()
    inherited.close_all_but({number, directory})
    socket = _socket.socket(fileno=number)
    spawner = _Spawner(directory, identity)
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
    def __init__(self, directory: int, identity: Identity | None) -> None:
        self._directory = directory
        self._identity = identity
        self._run = vfork.load()
        self._trouble = mmap.mmap(-1, 4)  # shared with forks

    def spawn(self, request: Spawn, fds: list[int]) -> Born | NotBorn:
        """Start it, and say so."""
        if not _is_leaf(request.leaf) or len(fds) != 2:
            return NotBorn(errno.EINVAL, "a wrong request")
        try:
            leaf = os.open(request.leaf, DIRECTORY, dir_fd=self._directory)
        except OSError as error:
            return NotBorn(error.errno or errno.EIO, f"its cgroup {request.leaf}")
        os.umask(request.umask & 0o777)  # ours is what it inherits
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
        """The user of the tasks may not write `cgroup.kill`: then it could also do so to its neighbours."""
        if not _is_leaf(request.leaf):
            return Killed(could=False)
        try:
            leaf = os.open(request.leaf, DIRECTORY, dir_fd=self._directory)
        except OSError:
            return Killed(could=False)
        try:
            file = os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=leaf)
        except OSError:  # before 5.14
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
        """Its pid, less than 0 if that cannot be done here; and the errno of a start that failed."""
        if self._run is None or request.alone:
            return -1, 0
        calls = vfork.Calls()
        if self._identity is not None:
            uid, gid, groups = self._identity
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
        """In the child."""
        try:
            if self._identity is not None:
                uid, gid, groups = self._identity
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
        except ValueError:  # a zero byte, or a `=` where none may be
            self._trouble[:] = errno.EINVAL.to_bytes(4, sys.byteorder)
        finally:
            os._exit(127)


def _is_leaf(name: str) -> bool:
    return "/" not in name and name not in ("", ".", "..")
