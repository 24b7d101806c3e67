"""What a slave writes to disk, so that a restarted one knows what runs, what has ended, and which ends are unacknowledged.

The work directory::

    WORK_DIR/
      lock                          flock: one slave at a time
      slave.ckpt                    SlaveCheckpoint: the slave's id, and the mode that operators have set
      wish.ckpt                     Wish: from an operator on this host, read at SIGUSR1
      tasks.journal                 TaskDelivered, StatusStored, StatusAcknowledged, in the order of events
      sockets/CONTAINER_ID/s        the socket to which its executor connects; only its user may
      sockets/executors.sock        the same for executors that an older slave has left, while there are some
      containers/CONTAINER_ID/
        container.ckpt              ContainerCheckpoint
        shim                        written by the shim when it starts: its pid and start time
        exit                        written by the shim when the executor has ended: ExitRecord
        sandbox/                    0700, the task user's: the executor's working directory
          stdout stderr             rotated to stdout.1; stdout.gone: the number of older bytes, which are deleted
          tasks/TASK_ID/            a command's working directory, with its own stdout and stderr; removed after its end as
                                    `offerd_slave.retention` says
          results/TASK_ID           a large result of a call, until it is fetched
      data/@OWNER/SET/FILE          placed here over HTTP by frameworks, read in place by their tasks
      files.ckpt                    FilesCheckpoint: the secrets from which tokens for the file server are made
      files.pem                     the file server's certificate and its key, if it is not on loopback
      quarantine/                   files that could not be read
      recordings/                   what the slave saw and decided (`offerd.daemons.recorder`), 0700

Checkpoints are whole files, replaced atomically. The journal is appended to, with one write for all records of a turn
and one fdatasync for all its terminal statuses (group commit). A `kill -9` of the slave loses nothing that was written;
a power loss ends every task anyway (another boot id), so only terminal statuses wait for the disk before they are forwarded.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from offerd.ids import ContainerID, FrameworkID, SlaveID
from offerd.messages import ExecutorInfo, FrameworkInfo, TaskInfo, TaskStatus, UpdateID
from offerd.values.bounds import Count, Epoch, WallClock, WishedSeconds

SLAVE_FILE = "slave.ckpt"
WISH_FILE = "wish.ckpt"

FORMAT = 1
"""Version of everything here. A checkpoint of a newer format is quarantined."""

MAX_SEQUENCE = (1 << 53) - 2
"""The highest number of an executor's statuses and updates. The slave's own last status has the next number, which every
encoder and every reader of JSON can still represent exactly."""


class UnwritableRecord(ValueError):
    """A record that the format cannot express: it has a number beyond 64 bits or an invalid text, or is too long."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Base of the journal's records."""


class TaskDelivered(Record, frozen=True):
    """The task is about to be sent to its executor (without its `data` and environment: the executor has them then)."""

    framework_id: FrameworkID
    container_id: ContainerID
    task: TaskInfo
    monotonic_s: (
        float  # CLOCK_MONOTONIC (the same for all processes of one boot) when its time limit began to count
    )


class StatusStored(Record, frozen=True):
    """A status that the scheduler must acknowledge."""

    framework_id: FrameworkID
    container_id: ContainerID
    status: TaskStatus


class StatusAcknowledged(Record, frozen=True):
    """The scheduler has acknowledged these; with a terminal one the slave forgets the task."""

    framework_id: FrameworkID
    updates: list[UpdateID]


JournalRecord = TaskDelivered | StatusStored | StatusAcknowledged


# The fields of a checkpoint have the bounds of the same fields in messages: with other values no slave could go on.
_OwnId = Annotated[SlaveID, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:@=+-]{0,128}\Z")]
_Mode = Annotated[str, msgspec.Meta(pattern=r"^(active|deactivated|draining|drained)\Z")]
_Account = Annotated[int, msgspec.Meta(ge=-1, lt=(1 << 32) - 1)]


class SlaveCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """The slave itself."""

    slave_id: _OwnId
    boot_id: str
    epoch: Epoch = 0  # newest epoch of a leader that was obeyed
    mode: _Mode = "active"  # `offerd.messages.SetSlaveMode`, or drained
    drain_end_at: WallClock | None = None  # monotonic clock of that boot: running tasks are ended then ...
    drain_grace_s: WishedSeconds | None = None  # ... with this grace


class Wish(msgspec.Struct, frozen=True, array_like=True):
    """The mode that an operator on this host wants (`offerd.messages.SetSlaveMode`)."""

    mode: str
    deadline_s: float | None = None


class ProcessCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """`offerd_linux.process_ids.ProcessID` on disk."""

    boot_id: str
    pid: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    start_ticks: Count


class ContainerCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """One run of one executor, which proves itself by the `token`; `shim` is None until it is launched."""

    container_id: ContainerID
    framework: FrameworkInfo
    executor: ExecutorInfo
    token: str
    isolation: str
    shim: ProcessCheckpoint | None = None
    uid: _Account = (
        -1
    )  # user of its processes; -1: written by an older slave, which had one socket for all executors
    gid: _Account = -1


class ExitRecord(msgspec.Struct, frozen=True):
    """How an executor ended, as its shim saw it; the file is JSON."""

    exit_status: int  # exit code, or minus the signal's number
    message: str = ""  # why it could not be started
    cpu_s: float = 0.0
    peak_mem_bytes: int = 0


# -- the file server's secrets ------------------------------------------------------------------------------------------


class Generation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One secret, and when it was made, in seconds since the boot."""

    number: int
    secret: bytes
    born_s: float


class Refusal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An owner's tokens of this generation and older ones are refused. `number`: see `files_messages.RefuseOwners`."""

    number: int
    generation: int


class FilesCheckpoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Generations, the newest last, with times of this boot."""

    boot_id: str
    generations: list[Generation]
    refusals: dict[str, Refusal] = {}
