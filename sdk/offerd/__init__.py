"""What a framework author imports: messages, resources, ids, codec, scheduler and executor drivers.

The public names are imported when first used (PEP 562): a daemon that wants `offerd.messages` pays for no driver.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offerd.aio import AsyncScheduler, AsyncSchedulerDriver
    from offerd.cluster_executor import ClusterExecutor, ClusterFuture
    from offerd.driver import SchedulerDriver
    from offerd.errors import (
        BadInput,
        BadMessage,
        BadResources,
        FrameworkError,
        MessageTooLarge,
        OfferdError,
        TaskError,
    )
    from offerd.executor import Executor, ExecutorDriver
    from offerd.messages import (
        CommandInfo,
        ExecutorInfo,
        Filters,
        FrameworkInfo,
        Offer,
        Reason,
        TaskInfo,
        TaskState,
        TaskStatus,
    )
    from offerd.operator import OperatorClient
    from offerd.resources import Resources
    from offerd.resubmission import AfterTimeout, resubmit
    from offerd.scheduler import Scheduler

__version__ = "0.1.0"

_HOME = {
    "AfterTimeout": "resubmission",
    "AsyncScheduler": "aio",
    "AsyncSchedulerDriver": "aio",
    "BadInput": "errors",
    "BadMessage": "errors",
    "BadResources": "errors",
    "ClusterExecutor": "cluster_executor",
    "ClusterFuture": "cluster_executor",
    "CommandInfo": "messages",
    "Executor": "executor",
    "ExecutorDriver": "executor",
    "ExecutorInfo": "messages",
    "Filters": "messages",
    "FrameworkError": "errors",
    "FrameworkInfo": "messages",
    "MessageTooLarge": "errors",
    "Offer": "messages",
    "OfferdError": "errors",
    "OperatorClient": "operator",
    "Reason": "messages",
    "Resources": "resources",
    "resubmit": "resubmission",
    "Scheduler": "scheduler",
    "SchedulerDriver": "driver",
    "TaskError": "errors",
    "TaskInfo": "messages",
    "TaskState": "messages",
    "TaskStatus": "messages",
}

__all__ = [
    "AfterTimeout",
    "AsyncScheduler",
    "AsyncSchedulerDriver",
    "BadInput",
    "BadMessage",
    "BadResources",
    "ClusterExecutor",
    "ClusterFuture",
    "CommandInfo",
    "Executor",
    "ExecutorDriver",
    "ExecutorInfo",
    "Filters",
    "FrameworkError",
    "FrameworkInfo",
    "MessageTooLarge",
    "Offer",
    "OfferdError",
    "OperatorClient",
    "Reason",
    "Resources",
    "Scheduler",
    "SchedulerDriver",
    "TaskError",
    "TaskInfo",
    "TaskState",
    "TaskStatus",
    "__version__",
    "resubmit",
]


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
