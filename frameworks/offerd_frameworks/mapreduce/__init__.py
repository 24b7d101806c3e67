"""MapReduce on offerd, in the manner of Hadoop: any program, or Python functions, as mapper, combiner and reducer.

    from offerd import mapreduce

    def count(line):
        for word in line.split():
            yield word, 1

    def add(word, counts):
        yield word, sum(counts)

    mapreduce.run(count, add, combine=add, input=["texts/"], output="counts", reduces=4)

docs/mapreduce.md describes streaming commands, data sets, and what happens when something fails. As an example of a framework:
`planner` decides, `scheduler` speaks to the cluster, and `task` is what runs on the slaves.

The names here are imported when first used: a task on a slave imports only what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offerd_frameworks.mapreduce.api import python_job, run
    from offerd_frameworks.mapreduce.framework import JobHandle, MapReduce
    from offerd_frameworks.mapreduce.functions import count, status
    from offerd_frameworks.mapreduce.job import Job
    from offerd_frameworks.mapreduce.progress import Progress, Summary

_HOME = {
    "Job": "job",
    "JobHandle": "framework",
    "MapReduce": "framework",
    "Progress": "progress",
    "Summary": "progress",
    "count": "functions",
    "python_job": "api",
    "run": "api",
    "status": "functions",
}

__all__ = ["Job", "JobHandle", "MapReduce", "Progress", "Summary", "count", "python_job", "run", "status"]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
