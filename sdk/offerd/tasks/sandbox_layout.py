"""Names in a sandbox that executors and slaves agree on. A slave removes what ended tasks have left there, by these names."""

from __future__ import annotations

TASKS = "tasks"
"""Directory in which each task has its own, named by the task."""
RESULTS = "results"
"""Directory of large results of Python calls, one file each, named by the task."""
KEEP_FILE = ".offerd-keep"
"""A file of this name in a task's directory keeps the directory for the task's framework."""
