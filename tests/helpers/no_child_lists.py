"""The command executor on a kernel that keeps no lists of children (no CONFIG_PROC_CHILDREN). Run in a process of its own."""

from __future__ import annotations

import os
from typing import Any

from offerd_executors import command

_open = os.open


def open_but_child_lists(path: Any, *arguments: Any, **options: Any) -> int:
    """os.open, for which /proc/PID/task/TID/children is not there."""
    if str(path).startswith("/proc/") and str(path).endswith("/children"):
        raise FileNotFoundError(2, os.strerror(2), path)
    return _open(path, *arguments, **options)


if __name__ == "__main__":
    os.open = open_but_child_lists
    command.main()
