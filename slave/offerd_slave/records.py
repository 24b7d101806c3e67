"""What a slave writes down, so that a restarted one knows what runs, what ended and who has not heard of it yet.

The work directory::

    WORK_DIR/
      lock                          flock: one slave at a time
      slave.ckpt                    SlaveCheckpoint: our slave id, and what operators want of us
      wish.ckpt                     Wish: of an operator on this host, read at SIGUSR1
      tasks.journal                 TaskDelivered, StatusStored, StatusAcknowledged, in the order they happened
      sockets/CONTAINER_ID/s        where its executor connects; only its user may
      sockets/executors.sock        the same for executors that an older slave has left, while there are some
      containers/CONTAINER_ID/
        container.ckpt              ContainerCheckpoint
        shim                        written by the shim when it begins: who it is
        exit                        written by the shim when the executor has ended: ExitRecord
        sandbox/                    0700, the task user's: the executor's working directory
          stdout stderr             rotated to stdout.1; stdout.gone: bytes before that ...
          tasks/TASK_ID/            a command's working directory, with its own stdout and stderr; when it has ended, see
                                    `offerd_slave.core.retention`
          results/TASK_ID           a large result of a call, until it was fetched
      data/@OWNER/SET/FILE          placed here over HTTP by frameworks, read in place by their tasks
      files.ckpt                    FilesCheckpoint: what tokens for the file server are made with
      files.pem                     the file server's certificate and its key, where it is not on loopback
      quarantine/                   what could not be read
      recordings/                   what the slave saw and decided (`offerd.daemons.recorder`), 0700

Checkpoints are whole files, replaced atomically; the journal is appended to, one write for all records of a loop's turn
and one fdatasync for all terminal statuses of it (group commit). A `kill -9` of the slave loses nothing that was written;
a power loss ends every task anyway (another boot id), so only terminal statuses wait for the disk before they are forwarded.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from offerd.ids import ContainerID, FrameworkID, SlaveID
from offerd.messages import ExecutorInfo, FrameworkInfo, TaskInfo, TaskStatus, UpdateID
from offerd.wire.bounds import Count, Epoch, WallClock, WishedSeconds

SLAVE_FILE = "slave.ckpt"
WISH_FILE = "wish.ckpt"

FORMAT = 1
"""Version of everything here. A checkpoint of a newer format is quarantined, not guessed at."""

MAX_SEQUENCE = (1 << 53) - 2
"""Of a status that an executor reports, and of its updates' numbers. The slave goes on counting where an executor stopped, and
the next number is still one that every encoder and every reader of JSON can take."""


class UnwritableRecord(ValueError):
    """It is in no form that can be written down: a number beyond 64 bits, a text that is none, too long."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    """Root of what stands in the journal."""


class TaskDelivered(Record, frozen=True):
    """The task is about to be sent to its executor (without its `data` and environment: the executor has them then)."""

    framework_id: FrameworkID
    container_id: ContainerID
    task: TaskInfo
    monotonic_s: (
        float  # CLOCK_MONOTONIC (the same for all processes of one boot) when its time limit began to count
    )


class StatusStored(Record, frozen=True):
    """A status that the scheduler must hear."""

    framework_id: FrameworkID
    container_id: ContainerID
    status: TaskStatus


class StatusAcknowledged(Record, frozen=True):
    """The scheduler has heard these; a terminal one ends the task for this slave."""

    framework_id: FrameworkID
    updates: list[UpdateID]


JournalRecord = TaskDelivered | StatusStored | StatusAcknowledged


# What a checkpoint holds is bounded as a message is: with what is beyond no slave could go on.
_OwnId = Annotated[SlaveID, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:@=+-]{0,128}\Z")]
_Mode = Annotated[str, msgspec.Meta(pattern=r"^(active|deactivated|draining|drained)\Z")]
_Account = Annotated[int, msgspec.Meta(ge=-1, lt=(1 << 32) - 1)]


class SlaveCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """Who we are to the master."""

    slave_id: _OwnId
    boot_id: str
    epoch: Epoch = 0  # newest leader epoch obeyed
    mode: _Mode = "active"  # `offerd.messages.SetSlaveMode`, or drained
    drain_end_at: WallClock | None = None  # monotonic clock of that boot: what runs is ended then ...
    drain_grace_s: WishedSeconds | None = None  # ... with so much time for its end


class Wish(msgspec.Struct, frozen=True, array_like=True):
    """What an operator on this host wants of the slave (`offerd.messages.SetSlaveMode`)."""

    mode: str
    deadline_s: float | None = None


class ProcessCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """`offerd_linux.process_ids.ProcessID`, on disk."""

    boot_id: str
    pid: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    start_ticks: Count


class ContainerCheckpoint(msgspec.Struct, frozen=True, array_like=True):
    """One run of one executor. `token` proves to us who connects; `shim` is None until it was launched."""

    container_id: ContainerID
    framework: FrameworkInfo
    executor: ExecutorInfo
    token: str
    isolation: str
    shim: ProcessCheckpoint | None = None
    uid: _Account = (
        -1
    )  # whom its processes run as; -1: of an older slave, which had one socket for all executors
    gid: _Account = -1


class ExitRecord(msgspec.Struct, frozen=True):
    """How an executor ended, as its shim saw it (JSON: the shim imports nothing heavy)."""

    exit_status: int  # exit code, or minus the signal
    message: str = ""  # why it could not even be started
    cpu_s: float = 0.0
    peak_mem_bytes: int = 0


# -- the file server's secrets ------------------------------------------------------------------------------------------


class Generation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One secret, and when it began, in seconds since the boot."""

    number: int
    secret: bytes
    born_s: float


class Refusal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of an owner: what of his was made with this generation or one before. `number`: see `files_messages.RefuseOwners`."""

    number: int
    generation: int


class FilesCheckpoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Generations, the newest last; times are those of this boot."""

    boot_id: str
    generations: list[Generation]
    refusals: dict[str, Refusal] = {}
