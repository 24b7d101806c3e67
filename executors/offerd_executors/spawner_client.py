"""The executor's side of the spawner, which starts programs in their tasks' cgroups, and kills them there.

The spawner itself is a part of the slave (`offerd_slave.launch.spawner`); `offerd.protocol.spawner_messages` has the messages.
"""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Mapping

import msgspec

from offerd.ids import TaskID
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
from offerd.tasks.task_cgroups import TASK_CGROUPS, leaf_name
from offerd.wire.posix_text import word_of

LITTLE_MEM_BYTES = 8 << 20
"""With a limit below this, the exec alone may exceed it: arguments and environment take 2 MiB and more at most."""


class SpawnerDied(Exception):
    """The spawner has ended: this executor cannot start any more tasks."""


class SpawnerClient:
    """Speaks to the spawner, which is a child of this process. It ends at `close`."""

    def __init__(self, place: str, cgroups: str) -> None:
        """`place` is the value of the variable `SPAWNER`, `cgroups` the directory of the tasks' cgroups."""
        fd, _, pid = place.partition(":")
        self.pid = int(pid)
        self._socket = _socket.socket(fileno=int(fd))
        self._cgroups = cgroups
        self._decode = msgspec.msgpack.Decoder(Born | NotBorn | Killed).decode

    def close(self) -> None:
        """End the spawner."""
        self._socket.close()
        os.waitpid(self.pid, 0)

    def spawn(
        self,
        task_id: TaskID,
        directory: bytes,
        program: bytes,
        argv: list[bytes],
        env: Mapping[bytes, bytes],
        stdout: int,
        stderr: int,
        mem_bytes: int | None,
        umask: int,
    ) -> int:
        """Start a program in the task's cgroup, whose limit is `mem_bytes`; returns its pid. Raises `OSError` and
        `SpawnerDied`.
        """
        pairs = [b"%s=%s" % pair for pair in env.items()]
        alone = mem_bytes is not None and mem_bytes < LITTLE_MEM_BYTES
        request = Spawn(leaf_name(task_id), directory, program, argv, pairs, alone, umask)
        try:
            write_frame(self._socket, msgspec.msgpack.encode(request), (stdout, stderr))
            packet, _ = read_frame(self._socket)
        except (BrokenPipeError, ConnectionResetError):
            packet = None
        if packet is None:
            raise SpawnerDied("the process that starts tasks in their cgroups has ended")
        answer = self._decode(packet)
        if isinstance(answer, Born):
            return answer.pid
        assert isinstance(answer, NotBorn)
        if answer.pid:
            os.waitpid(answer.pid, 0)
        raise OSError(answer.errno, os.strerror(answer.errno), answer.what or word_of(program))

    def kill(self, task_id: TaskID) -> bool:
        """Send SIGKILL to everything in the task's cgroup, however fast it forks. False if that is not possible."""
        try:
            write_frame(self._socket, msgspec.msgpack.encode(Kill(leaf_name(task_id))))
            packet, _ = read_frame(self._socket)
        except (BrokenPipeError, ConnectionResetError):
            return False
        answer = self._decode(packet) if packet is not None else None
        return isinstance(answer, Killed) and answer.could

    def members(self, task_id: TaskID) -> list[int] | None:
        """The processes in the task's cgroup; None if it has no cgroup, or has divided it."""
        cgroup = f"{self._cgroups}/{leaf_name(task_id)}"
        try:
            with os.scandir(cgroup) as entries:
                if any(entry.is_dir(follow_symlinks=False) for entry in entries):
                    return None
            with open(f"{cgroup}/cgroup.procs", "rb") as file:
                return [int(line) for line in file]
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return None  # it was removed meanwhile


def spawner_client(environ: Mapping[str, str]) -> SpawnerClient | None:
    """The spawner named in the environment; None if there is none."""
    return SpawnerClient(environ[SPAWNER], environ.get(TASK_CGROUPS, "")) if SPAWNER in environ else None
