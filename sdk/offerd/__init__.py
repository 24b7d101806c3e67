"""What a framework author imports: messages, resources, ids, and the drivers of schedulers and executors.

The public names are imported when first used (PEP 562), so a daemon that needs `offerd.messages` loads no driver. Installed
frameworks are names here, too (`from offerd import mapreduce`). They are found by their entry points in the group
`offerd.frameworks`: the SDK itself does not know them.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offerd.addresses import host_of
    from offerd.aio import AsyncScheduler, AsyncSchedulerDriver
    from offerd.cluster_events import ClusterEvent, EventReader
    from offerd.cluster_executor import ClusterExecutor
    from offerd.cluster_future import ClusterFuture
    from offerd.descriptions import (
        CommandInfo,
        ExecutorInfo,
        Filters,
        FrameworkInfo,
        Offer,
        TaskInfo,
        TaskOutput,
        TaskStatus,
    )
    from offerd.driver import Scheduler, SchedulerDriver
    from offerd.errors import (
        BadInput,
        BadMessage,
        BadResources,
        ForgedResult,
        FrameworkError,
        KeyRefused,
        MasterUnreachable,
        MessageTooLarge,
        NoKey,
        OfferdError,
        OutputLost,
        WrongType,
    )
    from offerd.executor import Executor, ExecutorDriver
    from offerd.files_access import FilesAccess
    from offerd.files_client import FileNotServed, FilesClient
    from offerd.files_connection import FilesConnection
    from offerd.files_door import FilesDoor, FilesPass
    from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
    from offerd.operator import OperatorClient
    from offerd.operator_messages import Waiting
    from offerd.resources import Resources
    from offerd.resubmission import AfterTimeout, resubmit
    from offerd.states import Reason, TaskState
    from offerd.task_errors import BrokenClusterExecutor, TaskError, TaskTimeoutError
    from offerd.workers import NoThread, Workers

__version__ = "0.1.0"

_HOME = {
    "AfterTimeout": "resubmission",
    "AsyncScheduler": "aio",
    "AsyncSchedulerDriver": "aio",
    "BadInput": "errors",
    "BadMessage": "errors",
    "BadResources": "errors",
    "BrokenClusterExecutor": "task_errors",
    "ClusterExecutor": "cluster_executor",
    "ClusterEvent": "cluster_events",
    "ClusterFuture": "cluster_future",
    "CommandInfo": "descriptions",
    "ContainerID": "ids",
    "EventReader": "cluster_events",
    "Executor": "executor",
    "ExecutorDriver": "executor",
    "ExecutorID": "ids",
    "ExecutorInfo": "descriptions",
    "FileNotServed": "files_client",
    "FilesAccess": "files_access",
    "FilesClient": "files_client",
    "FilesConnection": "files_connection",
    "FilesDoor": "files_door",
    "FilesPass": "files_door",
    "Filters": "descriptions",
    "ForgedResult": "errors",
    "FrameworkError": "errors",
    "FrameworkID": "ids",
    "FrameworkInfo": "descriptions",
    "host_of": "addresses",
    "KeyRefused": "errors",
    "MasterUnreachable": "errors",
    "MessageTooLarge": "errors",
    "NoKey": "errors",
    "NoThread": "workers",
    "Offer": "descriptions",
    "OfferID": "ids",
    "OfferdError": "errors",
    "OperatorClient": "operator",
    "OutputLost": "errors",
    "Reason": "states",
    "Resources": "resources",
    "resubmit": "resubmission",
    "Scheduler": "driver",
    "SchedulerDriver": "driver",
    "SlaveID": "ids",
    "TaskError": "task_errors",
    "TaskID": "ids",
    "TaskInfo": "descriptions",
    "TaskOutput": "descriptions",
    "TaskState": "states",
    "TaskStatus": "descriptions",
    "TaskTimeoutError": "task_errors",
    "WrongType": "errors",
    "Waiting": "operator_messages",
    "Workers": "workers",
}

__all__ = [
    "AfterTimeout",
    "AsyncScheduler",
    "AsyncSchedulerDriver",
    "BadInput",
    "BadMessage",
    "BadResources",
    "BrokenClusterExecutor",
    "ClusterEvent",
    "ClusterExecutor",
    "ClusterFuture",
    "CommandInfo",
    "ContainerID",
    "EventReader",
    "Executor",
    "ExecutorDriver",
    "ExecutorID",
    "ExecutorInfo",
    "FileNotServed",
    "FilesAccess",
    "FilesClient",
    "FilesConnection",
    "FilesDoor",
    "FilesPass",
    "Filters",
    "ForgedResult",
    "FrameworkError",
    "FrameworkID",
    "FrameworkInfo",
    "KeyRefused",
    "MasterUnreachable",
    "MessageTooLarge",
    "NoKey",
    "NoThread",
    "Offer",
    "OfferID",
    "OfferdError",
    "OperatorClient",
    "OutputLost",
    "Reason",
    "Resources",
    "Scheduler",
    "SchedulerDriver",
    "SlaveID",
    "TaskError",
    "TaskID",
    "TaskInfo",
    "TaskOutput",
    "TaskState",
    "TaskStatus",
    "TaskTimeoutError",
    "Waiting",
    "Workers",
    "WrongType",
    "__version__",
    "host_of",
    "resubmit",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name."""
    home = _HOME.get(name)
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name) if home else _framework(name)
    globals()[name] = value
    return value


def _framework(name: str) -> Any:
    """The installed framework of that name. Raises `AttributeError` if there is none."""
    # `from offerd import ranges` calls this before it imports the module, also in shims. Looking for installed frameworks
    # would cost each shim 3 MB.
    is_ours = any(os.path.exists(f"{folder}/{name}{end}") for folder in __path__ for end in (".py", ""))
    if not is_ours and not name.startswith("_"):
        from importlib.metadata import entry_points

        for point in entry_points(group="offerd.frameworks", name=name):
            return point.load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
