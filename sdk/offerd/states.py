"""The states of tasks, and the reasons that statuses and refusals give."""

from __future__ import annotations

from enum import Enum, StrEnum


class TaskState(Enum):
    """The state of a task. After a terminal state no other follows: exactly one reaches the scheduler's code, once."""

    STAGING = "TASK_STAGING"
    """The master has accepted the task, and nobody has reported it running yet."""
    RUNNING = "TASK_RUNNING"
    """The executor has started the task."""
    FINISHED = "TASK_FINISHED"
    """The task ended by itself, with success. Terminal."""
    FAILED = "TASK_FAILED"
    """The task ended by itself without success, its executor failed, or it hit a limit of its resources. Terminal."""
    KILLED = "TASK_KILLED"
    """The cluster ended the task: on request, at its time limit, for a drain. Terminal."""
    ERROR = "TASK_ERROR"
    """The task's description was bad, so it was never launched. Sending the same again will not help. Terminal."""
    LOST = "TASK_LOST"
    """The task never ran, or nobody can say how it ended. Terminal."""
    UNREACHABLE = "TASK_UNREACHABLE"
    """The task's slave is lost, and may come back with it. Only a framework with an `unreachable_timeout_s` sees this."""

    terminal: bool
    """Whether this is the task's last state."""


# An attribute of each member, not a property: the hot path reads it for every update.
for _state in TaskState:
    _state.terminal = _state not in (TaskState.STAGING, TaskState.RUNNING, TaskState.UNREACHABLE)


class Reason(StrEnum):
    """Why a task is in its state, or why a framework or slave was refused.

    Each says when it is given and what a scheduler can do. *Try again* means: launch the task once more under a new id, if
    no harm comes from running it twice. On the wire a reason is a plain string: a newer peer may send one that is not here.
    """

    # The task itself failed.
    COMMAND_EXITED = "COMMAND_EXITED"
    """The task's program ended with an exit code other than 0, or by a signal that offerd did not send. `exit_status` says
    which, and the task's stderr may say why.
    """
    COMMAND_NOT_STARTED = "COMMAND_NOT_STARTED"
    """The task's program could not be started: the slave has no such program or directory, or the user may not execute it.
    Correct the command, or filter for slaves that have it.
    """
    CALL_RAISED = "CALL_RAISED"
    """The task's Python call raised an exception; `data` holds it, pickled."""
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    """The task went over a limit of its resources, mostly memory; `limit` says which. Ask for more."""

    # The cluster ended the task.
    TASK_TIMEOUT = "TASK_TIMEOUT"
    """The task was killed at its time limit. Try again with a longer one or none (`offerd.resubmit`)."""
    KILLED_BY_FRAMEWORK = "KILLED_BY_FRAMEWORK"
    """The task's scheduler asked for its end, or an operator did."""
    FRAMEWORK_REMOVED = "FRAMEWORK_REMOVED"
    """The framework has ended, or an operator ended it: so do its tasks. A scheduler that wants to return registers anew,
    without an id.
    """
    SLAVE_DRAINING = "SLAVE_DRAINING"
    """The slave is being emptied by an operator, or is ending. Try again: another slave will be offered."""
    DISK_PRESSURE = "DISK_PRESSURE"
    """The slave's disk is full, so it could not record the task, which never ran. Try again on another slave."""
    USER_CHANGED = "USER_CHANGED"
    """The framework runs as another user now, and this task ran as the former one. Try again."""
    REVOKED = "REVOKED"
    """Another framework was below its guarantee, and this one above its own. Try again when there is room."""
    LIMITS_NOT_SET = "LIMITS_NOT_SET"
    """The isolation module could not set the task's limits, and the task may not run without. The slave's log says why."""
    UNKILLABLE = "UNKILLABLE"
    """The task was killed, but some of its processes wait in the kernel and do not end. Its state stays `RUNNING`, and it
    holds its resources until they have ended. An operator has to look at the host.
    """

    # The accept was bad, so the task never ran.
    OFFER_INVALID = "OFFER_INVALID"
    """The offer was answered or rescinded before, or the offers are of several slaves. Try again with another offer."""
    OFFER_EXCEEDED = "OFFER_EXCEEDED"
    """The task needs more than is left of the offers, or the slave has no room for it any more. From the master (`ERROR`):
    ask for less, or count what the executor needs. From the slave (`LOST`): try again.
    """
    LONG_TASK_CAP = "LONG_TASK_CAP"
    """Long tasks would hold more than their part of the slave. Try again elsewhere, or give the task a time limit of at most
    the offer's `short_limit_s`.
    """
    TASK_ID_DUPLICATE = "TASK_ID_DUPLICATE"
    """The framework has a task of this id that has not ended. Give each task its own id."""
    TASK_INVALID = "TASK_INVALID"
    """The task's description is bad: no resources, a time limit that is not above 0, an executor that the framework has not
    declared, an id with characters that no id may have. The message says which; correct it.
    """
    SLAVE_UNKNOWN = "SLAVE_UNKNOWN"
    """The master has no slave of this id. No daemon of this version gives this reason. Try again."""

    # The executor, the slave or the network failed.
    CONTAINER_PREPARING = "CONTAINER_PREPARING"
    """The container is being made, for example by pulling an image: the task stays `STAGING`, and the message says how far
    that is. Nothing to do.
    """
    EXECUTOR_NOT_LAUNCHED = "EXECUTOR_NOT_LAUNCHED"
    """The slave could not start the executor: no such module, program, image or user there. The message says why."""
    EXECUTOR_REGISTRATION_TIMEOUT = "EXECUTOR_REGISTRATION_TIMEOUT"
    """The executor was started and did not register with the slave in time. Its stderr may say why."""
    EXECUTOR_EXITED = "EXECUTOR_EXITED"
    """The executor ended while it had the task; `exit_status` is the executor's. Try again, unless the task causes it."""
    EXECUTOR_RAISED = "EXECUTOR_RAISED"
    """The executor's `launch_task` or `kill_task` raised an exception; the message holds the traceback."""
    EXECUTOR_INVALID = "EXECUTOR_INVALID"
    """The executor sent the slave something that no executor may send, so the slave ended it. A fault of the executor."""
    SHIM_DIED = "SHIM_DIED"
    """The process between slave and executor was killed, so the executor was killed, too. Try again."""
    WORKER_DIED = "WORKER_DIED"
    """The worker process that made the Python call ended by itself: a crash in native code, or `os._exit`."""
    SLAVE_LOST = "SLAVE_LOST"
    """The slave has been silent for too long, or has left. Try again."""
    SLAVE_RESTARTED = "SLAVE_RESTARTED"
    """The slave is back, and does not have the task: it was lost on its way there, or ended unrecorded. Try again."""
    SLAVE_RETURNED = "SLAVE_RETURNED"
    """The slave was unreachable and is back, with the task: it is `RUNNING` again. Nothing to do."""
    HOST_REBOOTED = "HOST_REBOOTED"
    """The slave's host was rebooted, which ended the task. Try again."""
    CHECKPOINT_DAMAGED = "CHECKPOINT_DAMAGED"
    """The slave's record of the task cannot be read or written, so the task was ended. Try again."""

    # Answers to reconciliation and registration.
    RECONCILIATION = "RECONCILIATION"
    """The status answers a question of the scheduler: nothing has happened."""
    TASK_UNKNOWN = "TASK_UNKNOWN"
    """The framework has no task of this id, or none that anybody remembers."""
    FRAMEWORK_INVALID = "FRAMEWORK_INVALID"
    """The framework's description cannot be used, or its owner has too many frameworks. The message says what to change."""
    FRAMEWORK_FAILED_OVER = "FRAMEWORK_FAILED_OVER"
    """Another scheduler of the framework has taken over from this one."""
    FRAMEWORK_TORN_DOWN = "FRAMEWORK_TORN_DOWN"
    """The framework's own scheduler has ended it. Register anew, without an id."""
    FAILOVER_TIMEOUT = "FAILOVER_TIMEOUT"
    """No scheduler came back within the framework's `failover_timeout_s`, so it has ended. Register anew, without an id."""
    SLAVE_INVALID = "SLAVE_INVALID"
    """The slave's registration cannot be used: it has no resources, or an id has characters that no id may have."""
    MESSAGE_INVALID = "MESSAGE_INVALID"
    """The peer sent something that no peer may send, so the master ended the connection. A fault of the peer's program."""
    PROTOCOL_TOO_OLD = "PROTOCOL_TOO_OLD"
    """The peer's version is older than the master accepts. Upgrade the peer."""
    NOT_AUTHORIZED = "NOT_AUTHORIZED"
    """The owner of the key may not do this, or not as this user or in this role. The operator can allow it."""
    KEY_REVOKED = "KEY_REVOKED"
    """The operator has taken the key's rights away."""
    EPOCH_TOO_OLD = "EPOCH_TOO_OLD"
    """The peer has heard of a later leader than this master. No daemon of this version gives this reason."""
    MASTER_STANDS_BY = "MASTER_STANDS_BY"
    """This master stands by, and another one leads. Name the masters by their ZooKeeper: `zk://HOST:PORT/PATH`."""

    never_ran: bool
    """Whether a task that is `LOST` or `ERROR` for this reason never ran because its offer was overtaken: no fault of the task,
    so the same may be launched with another offer, without harm. Reasons that say that the task itself was bad are not meant.
    """


for _reason in Reason:
    _reason.never_ran = _reason in (Reason.OFFER_INVALID, Reason.LONG_TASK_CAP, Reason.SLAVE_UNKNOWN)
