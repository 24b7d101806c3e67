"""The states of tasks, and the reasons for them: the words of statuses."""

from __future__ import annotations

from enum import Enum, StrEnum


class TaskState(Enum):
    """The state of a task. Terminal states are final: exactly one of them reaches the scheduler's code, once."""

    STAGING = "TASK_STAGING"
    """The master has accepted it, and nobody has reported it running yet."""
    RUNNING = "TASK_RUNNING"
    """Its executor has started it."""
    FINISHED = "TASK_FINISHED"
    """It ended by itself, with success. Terminal."""
    FAILED = "TASK_FAILED"
    """It ended by itself, without success, or the kernel ended it at one of its limits (`LIMIT_EXCEEDED`). Terminal."""
    KILLED = "TASK_KILLED"
    """The cluster ended it: on request, at its time limit, for a drain. Terminal."""
    ERROR = "TASK_ERROR"
    """Its description was bad: it was never launched, and the same description will not do better. Terminal."""
    LOST = "TASK_LOST"
    """It never ran, or nobody can say how it ended. Terminal."""
    UNREACHABLE = "TASK_UNREACHABLE"
    """Its slave is lost, and may come back with it. Only frameworks with an `unreachable_timeout_s` see this state."""

    terminal: bool
    """Whether no other state follows."""


# An attribute of each member and not a property, as the hot path asks for every update.
for _state in TaskState:
    _state.terminal = _state not in (TaskState.STAGING, TaskState.RUNNING, TaskState.UNREACHABLE)


class Reason(StrEnum):
    """Why a task is in its state, or why a framework or slave was refused. On the wire it is a plain string: a newer peer may
    send one that is not here.
    """

    # The command or call itself.
    COMMAND_EXITED = "COMMAND_EXITED"
    """The command ended with another exit status than 0, or by a signal that offerd has not sent."""
    COMMAND_NOT_STARTED = "COMMAND_NOT_STARTED"
    """There is no such program, or the user may not execute it."""
    CALL_RAISED = "CALL_RAISED"
    """A Python call raised an exception."""
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    """The task went over a limit of its resources; the status' field `limit` says which."""

    # Ended by the cluster.
    TASK_TIMEOUT = "TASK_TIMEOUT"
    """It was killed at its time limit."""
    KILLED_BY_FRAMEWORK = "KILLED_BY_FRAMEWORK"
    """Its scheduler, or an operator, asked for that."""
    FRAMEWORK_REMOVED = "FRAMEWORK_REMOVED"
    """Its framework has ended, or was ended."""
    SLAVE_DRAINING = "SLAVE_DRAINING"
    """Its slave is being emptied by an operator."""
    DISK_PRESSURE = "DISK_PRESSURE"
    """The slave's disk is full, so that the slave cannot record what it would run."""
    USER_CHANGED = "USER_CHANGED"
    """Its framework runs as another user now."""
    REVOKED = "REVOKED"
    """Another framework was under its guarantee, and this one above its own."""
    LIMITS_NOT_SET = "LIMITS_NOT_SET"
    """The isolation module could not set its limits, and it may not run without them."""
    UNKILLABLE = "UNKILLABLE"
    """It was killed, but the kernel keeps some of its processes: it runs on, and holds its resources."""

    # The accept was bad.
    OFFER_INVALID = "OFFER_INVALID"
    """The offer is unknown, answered already or rescinded, or the offers are of several slaves."""
    OFFER_EXCEEDED = "OFFER_EXCEEDED"
    """The tasks ask for more than the offers hold."""
    LONG_TASK_CAP = "LONG_TASK_CAP"
    """Long tasks would hold more than their part of the slave."""
    TASK_ID_DUPLICATE = "TASK_ID_DUPLICATE"
    """The framework has a task of this id."""
    TASK_INVALID = "TASK_INVALID"
    """The description names nothing to run, no resources, a negative time limit or an unknown executor."""
    SLAVE_UNKNOWN = "SLAVE_UNKNOWN"
    """The master knows no slave of this id."""

    # The executor, the slave, the network.
    CONTAINER_PREPARING = "CONTAINER_PREPARING"
    """Its container is being made, for example by pulling an image; the status' message says how far that is."""
    EXECUTOR_NOT_LAUNCHED = "EXECUTOR_NOT_LAUNCHED"
    """The slave could not start the executor."""
    EXECUTOR_REGISTRATION_TIMEOUT = "EXECUTOR_REGISTRATION_TIMEOUT"
    """The executor was started and did not register with the slave in time."""
    EXECUTOR_EXITED = "EXECUTOR_EXITED"
    """The executor ended while it had the task."""
    EXECUTOR_RAISED = "EXECUTOR_RAISED"
    """The executor's `launch_task` or `kill_task` raised an exception."""
    EXECUTOR_INVALID = "EXECUTOR_INVALID"
    """The executor sent the slave what no executor may, and was ended."""
    SHIM_DIED = "SHIM_DIED"
    """The process that watches over the executor was killed, and the executor with it."""
    WORKER_DIED = "WORKER_DIED"
    """A worker process of the Python executor ended by itself."""
    SLAVE_LOST = "SLAVE_LOST"
    """The master has had no word of the slave for too long."""
    SLAVE_RESTARTED = "SLAVE_RESTARTED"
    """The slave was restarted, and the task was gone by then."""
    SLAVE_RETURNED = "SLAVE_RETURNED"
    """The slave was unreachable and is back, with the task."""
    HOST_REBOOTED = "HOST_REBOOTED"
    """The slave's host was booted anew, which ended the task."""
    CHECKPOINT_DAMAGED = "CHECKPOINT_DAMAGED"
    """What a restarted slave had recorded of the task cannot be read."""

    # Answers to reconciliation and registration.
    RECONCILIATION = "RECONCILIATION"
    """The answer to a question of the scheduler, not news."""
    TASK_UNKNOWN = "TASK_UNKNOWN"
    """Nobody knows a task of this id."""
    FRAMEWORK_INVALID = "FRAMEWORK_INVALID"
    """The description of the framework cannot be used."""
    FRAMEWORK_FAILED_OVER = "FRAMEWORK_FAILED_OVER"
    """Another scheduler of the framework has taken over."""
    FRAMEWORK_TORN_DOWN = "FRAMEWORK_TORN_DOWN"
    """The framework has ended itself."""
    FAILOVER_TIMEOUT = "FAILOVER_TIMEOUT"
    """No scheduler of the framework came back in time."""
    SLAVE_INVALID = "SLAVE_INVALID"
    """The slave's registration cannot be used: it has no resources, or ids that are none."""
    MESSAGE_INVALID = "MESSAGE_INVALID"
    """The peer sent what it may not, and the master has ended the connection."""
    PROTOCOL_TOO_OLD = "PROTOCOL_TOO_OLD"
    """The peer is of a version that the master does not speak with."""
    NOT_AUTHORIZED = "NOT_AUTHORIZED"
    """The owner of this key may not be or do this."""
    KEY_REVOKED = "KEY_REVOKED"
    """The owner of this key was authorized, and is not any more."""
    EPOCH_TOO_OLD = "EPOCH_TOO_OLD"
    """The peer has heard from a master that was elected later."""
    MASTER_STANDS_BY = "MASTER_STANDS_BY"
    """This master does not lead; another one does."""
