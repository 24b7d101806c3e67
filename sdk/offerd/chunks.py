"""The far side of `ClusterExecutor.map` with a chunk size: imported by workers, so it imports nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def call_each(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The results of calling `function` with each of these tuples of arguments. The first that raises ends it."""
    return [function(*arguments) for arguments in calls]
