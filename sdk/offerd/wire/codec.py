"""Frames: many messages in one ZeroMQ frame (measured: four times the rate of one frame each).

A frame is the MessagePack array `[epoch, [message, ...]]`. `epoch` is the leader's if a master sends it, and 0 from all other
peers. Messages are encoded one by one and joined, so a frame can be cut before it grows too large without encoding anything
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, Union, get_args

import msgspec

from offerd import messages as m
from offerd import operator_messages as om
from offerd.errors import BadMessage, MessageTooLarge
from offerd.protocol import change_messages as em
from offerd.protocol import files_messages as fm
from offerd.protocol import recording_messages as rm
from offerd.values.bounds import Epoch
from offerd.values.screen_text import printable

MAX_FRAME_BYTES = 1 << 20
"""Largest frame that a socket accepts (`ZMQ_MAXMSGSIZE`)."""
FRAME_TARGET_BYTES = 256 << 10
"""Frames are cut at about this size: large enough that the cost per frame does not matter, small enough to keep flowing."""
MAX_SENT_BYTES = MAX_FRAME_BYTES - 64
"""Largest message that fits into a frame."""
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES - (8 << 10)
"""Largest message that a master accepts: forwarded with names and defaults added, it still fits into a frame."""
MAX_EXECUTOR_BYTES = MAX_FRAME_BYTES - (16 << 10)
"""Largest message that a slave accepts from an executor: a master then accepts it from the slave."""
UNENCODABLE = (MessageTooLarge, msgspec.MsgspecError, OverflowError, TypeError, ValueError, RecursionError)
"""What encoding a message may raise: numbers beyond 64 bits, texts that are not UTF-8, endless nesting."""

ToMaster = Union[
    m.RegisterFramework, m.AcceptOffers, m.DeclineOffers, m.SetNeedsOffers, m.SetFilters, m.ReviveOffers, m.KillTask,
    m.Acknowledge, m.ReconcileTasks, m.FrameworkMessage, m.GetGuaranteedShare, m.TeardownFramework, m.FailOver, m.Pong,
    m.RegisterSlave, m.UnregisterSlave, m.StatusUpdate, m.ExecutorExited, m.SlaveUsage, fm.FilesSecretChanged,
    rm.EventsRecorded, rm.RecordEvents, em.FollowChanges,
    om.GetCluster, om.GetSlaves, om.GetFrameworks, om.GetTasks, om.KillAnyTask, om.ExplainWaiting, om.ChangeSlaveMode,
    om.ExplainFramework, om.EndFramework,
    om.NewToken, om.GetTokens, om.RevokeToken, om.Enrol, om.GetKeys, om.RevokeKey,
]  # fmt: skip
ToScheduler = Union[
    m.FrameworkRegistered, m.FrameworkStandsBy, m.ResourceOffers, m.RescindOffer, m.StatusUpdate, m.SlaveLost, m.ExecutorLost,
    m.FrameworkMessage, m.GuaranteedShare, m.RevocationNotice, m.FrameworkRefused, m.Ping, m.NotRegistered,
    m.NotLeading, m.Dropped,
    om.Waiting,
    fm.FilesRenewed,
]  # fmt: skip
ToSlave = Union[
    m.SlaveRegistered, m.SlaveRefused, m.RunTasks, m.KillTask, m.Acknowledge, m.FrameworkMessage, m.ShutdownFramework,
    m.SetSlaveMode, fm.RefuseOwners, rm.RecordEvents, m.Ping, m.NotRegistered, m.NotLeading, m.Dropped,
]  # fmt: skip
FromExecutor = Union[m.RegisterExecutor, m.ExecutorUpdate, m.FrameworkMessage]
ToExecutor = Union[
    m.ExecutorRegistered,
    m.LaunchTask,
    m.KillTask,
    m.UpdatesStored,
    m.FrameworkMessage,
    m.Shutdown,
    m.NotRegistered,
]
ToOperator = Union[
    om.Cluster,
    om.Slaves,
    om.Frameworks,
    om.Tasks,
    om.Done,
    om.Waiting,
    om.Explanation,
    om.NotAuthorized,
    om.Token,
    om.Tokens,
    om.Enrolled,
    om.Keys,
    rm.EventsRecorded,
    em.Changes,
    m.NotLeading,
    m.Dropped,
]

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
encode_message = _encoder.encode
"""Encode one message (or value) without a frame around it."""


class Codec(Generic[M]):
    """Decodes the frames of one direction; anything else, and frames of more than `max_bytes`, raises `BadMessage`.

    We join messages up to `FRAME_TARGET_BYTES` only, so this limit is one on single messages.
    """

    def __init__(self, union: object, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self.types: tuple[type, ...] = get_args(union)
        self._max_bytes = max_bytes
        self._decode = msgspec.msgpack.Decoder(tuple[Epoch, list[union]]).decode  # type: ignore[valid-type]

    def decode(self, frame: bytes) -> tuple[int, list[M]]:
        """`(epoch, messages)`. Raises `BadMessage` with one line on what is wrong."""
        if len(frame) > self._max_bytes:
            raise BadMessage(f"{len(frame)} bytes: more than {self._max_bytes}, so it could not be passed on")
        try:
            return self._decode(frame)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            # ValueError: bad UTF-8; RecursionError: hostile deep nesting
            raise BadMessage(f"{len(frame)} bytes: {printable(str(error))}") from None


if TYPE_CHECKING:
    to_master: Codec[ToMaster]
    to_scheduler: Codec[ToScheduler]
    to_slave: Codec[ToSlave]
    from_executor: Codec[FromExecutor]
    to_executor: Codec[ToExecutor]
    to_operator: Codec[ToOperator]

_LAZY = {
    "to_master": ToMaster,
    "to_scheduler": ToScheduler,
    "to_slave": ToSlave,
    "from_executor": FromExecutor,
    "to_executor": ToExecutor,
    "to_operator": ToOperator,
}
_MAX_BYTES = {"to_master": MAX_MESSAGE_BYTES + 64, "from_executor": MAX_EXECUTOR_BYTES + 64}


def __getattr__(name: str) -> Codec[object]:
    """Build a codec when it is first used: each process reads only one or two directions."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    codec: Codec[object] = Codec(_LAZY[name], _MAX_BYTES.get(name, MAX_FRAME_BYTES))
    globals()[name] = codec
    return codec


def frames(
    messages: Iterable[m.Message],
    epoch: int = 0,
    leave_out: Callable[[m.Message, str], None] | None = None,
    max_bytes: int = MAX_SENT_BYTES,
) -> Iterator[bytes]:
    """Join messages, in order, to as few frames as their sizes allow. No message may have more than `max_bytes`.

    Raises `MessageTooLarge` for a message that no frame can hold, and the encoder's error for a value that it cannot write;
    the messages after it are then not encoded. With `leave_out`, such a message is left out, and `leave_out` called with it and
    the reason.
    """
    parts: list[bytes] = []
    size = 0
    for message in messages:
        try:
            part = _encoder.encode(message)
            if len(part) > max_bytes:
                raise MessageTooLarge(
                    f"a {type(message).__name__} of {len(part)} bytes does not fit into a message of "
                    f"{max_bytes} bytes; send less at once, or put the data into a file"
                )
        except UNENCODABLE as error:
            if leave_out is not None:
                is_clear = isinstance(error, MessageTooLarge)
                leave_out(message, str(error) if is_clear else f"a {type(message).__name__}: {error}")
                continue
            if parts:
                yield _join(parts, epoch)
            raise
        if parts and size + len(part) > FRAME_TARGET_BYTES:
            yield _join(parts, epoch)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield _join(parts, epoch)


def _join(parts: list[bytes], epoch: int) -> bytes:
    """The two array headers (array of 2, array of 32-bit length) are written by hand, as the parts are encoded already."""
    return b"".join((b"\x92", _encoder.encode(epoch), b"\xdd", len(parts).to_bytes(4, "big"), *parts))
