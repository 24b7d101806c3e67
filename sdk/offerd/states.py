"""Where a task is, and why: the words of statuses."""

from __future__ import annotations

from enum import Enum, StrEnum


class TaskState(Enum):
    """Where a task is. Terminal states are final: one of them reaches the scheduler's code, once."""

    STAGING = "TASK_STAGING"  # accepted by the master, not yet reported running
    RUNNING = "TASK_RUNNING"
    FINISHED = "TASK_FINISHED"  # ended by itself, well
    FAILED = (
        "TASK_FAILED"  # ended by itself, badly; also by the kernel, at its limit of memory (LIMIT_EXCEEDED)
    )
    KILLED = "TASK_KILLED"  # ended by us: by request, time limit, drain
    ERROR = "TASK_ERROR"  # the description was bad: never launched, will not be better next time
    LOST = "TASK_LOST"  # it never ran, or nobody can say how it ended
    UNREACHABLE = (
        "TASK_UNREACHABLE"  # its slave is lost and may come back with it; only for frameworks that ask for it
    )

    terminal: bool
    """Set below; an attribute and not a property because the hot path asks for every update."""


for _state in TaskState:
    _state.terminal = _state not in (TaskState.STAGING, TaskState.RUNNING, TaskState.UNREACHABLE)


class Reason(StrEnum):
    """Why a task is in its state, or a framework or slave was refused. On the wire a plain string: newer peers know more."""

    # the command or call itself
    COMMAND_EXITED = "COMMAND_EXITED"  # exit status other than 0, or a signal of its own
    COMMAND_NOT_STARTED = "COMMAND_NOT_STARTED"  # no such program, no permission
    CALL_RAISED = "CALL_RAISED"  # a Python call ended with an exception
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"  # of memory, processes, ...: the status' `limit` says which
    # ended by us
    TASK_TIMEOUT = "TASK_TIMEOUT"  # its time limit was over
    KILLED_BY_FRAMEWORK = "KILLED_BY_FRAMEWORK"
    FRAMEWORK_REMOVED = "FRAMEWORK_REMOVED"
    SLAVE_DRAINING = "SLAVE_DRAINING"
    DISK_PRESSURE = "DISK_PRESSURE"  # the slave has no room to write down what it would run
    USER_CHANGED = "USER_CHANGED"  # its framework runs as another user now
    REVOKED = "REVOKED"  # another framework was under its guarantee, this one above its own
    LIMITS_NOT_SET = "LIMITS_NOT_SET"  # its isolation could not make them: it may not run without
    UNKILLABLE = "UNKILLABLE"  # killed, but the kernel does not let go of its processes: it runs on, and holds its resources
    # the accept was bad
    OFFER_INVALID = "OFFER_INVALID"  # unknown, answered already, rescinded, or offers of several slaves
    OFFER_EXCEEDED = "OFFER_EXCEEDED"  # asks for more than the offers hold
    LONG_TASK_CAP = "LONG_TASK_CAP"  # long tasks would hold more than their part of the slave
    TASK_ID_DUPLICATE = "TASK_ID_DUPLICATE"
    TASK_INVALID = "TASK_INVALID"  # nothing to run, no resources, negative time limit, unknown executor
    SLAVE_UNKNOWN = "SLAVE_UNKNOWN"
    # the executor, the slave, the network
    CONTAINER_PREPARING = "CONTAINER_PREPARING"  # its image is being pulled: so far
    EXECUTOR_NOT_LAUNCHED = "EXECUTOR_NOT_LAUNCHED"
    EXECUTOR_REGISTRATION_TIMEOUT = "EXECUTOR_REGISTRATION_TIMEOUT"
    EXECUTOR_EXITED = "EXECUTOR_EXITED"
    EXECUTOR_RAISED = "EXECUTOR_RAISED"  # its launch_task or kill_task did
    EXECUTOR_INVALID = "EXECUTOR_INVALID"  # it told the slave what no executor would, and was ended
    SHIM_DIED = "SHIM_DIED"
    WORKER_DIED = "WORKER_DIED"  # a worker process of the Python executor, by its own hand
    SLAVE_LOST = "SLAVE_LOST"
    SLAVE_RESTARTED = "SLAVE_RESTARTED"
    SLAVE_RETURNED = "SLAVE_RETURNED"  # what was unreachable is back
    HOST_REBOOTED = "HOST_REBOOTED"
    CHECKPOINT_DAMAGED = "CHECKPOINT_DAMAGED"
    # answers to reconciliation and registration
    RECONCILIATION = "RECONCILIATION"
    TASK_UNKNOWN = "TASK_UNKNOWN"
    FRAMEWORK_INVALID = "FRAMEWORK_INVALID"
    FRAMEWORK_FAILED_OVER = "FRAMEWORK_FAILED_OVER"  # another scheduler has taken over
    FRAMEWORK_TORN_DOWN = "FRAMEWORK_TORN_DOWN"  # it has ended itself
    FAILOVER_TIMEOUT = "FAILOVER_TIMEOUT"  # no scheduler of it came back in time
    SLAVE_INVALID = "SLAVE_INVALID"  # its hello cannot be used: no resources, ids that are none
    MESSAGE_INVALID = "MESSAGE_INVALID"  # it sent what no scheduler may, and the master hung up
    PROTOCOL_TOO_OLD = "PROTOCOL_TOO_OLD"
    NOT_AUTHORIZED = "NOT_AUTHORIZED"  # the owner of this key may not be or do this
    KEY_REVOKED = "KEY_REVOKED"  # the owner of this key was authorized, and is not any more
    EPOCH_TOO_OLD = "EPOCH_TOO_OLD"
    MASTER_STANDS_BY = "MASTER_STANDS_BY"
