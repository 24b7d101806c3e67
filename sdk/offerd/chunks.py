"""Runs on the workers for `ClusterExecutor.map` with a chunk size. It imports nothing: each worker would pay for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def call_each(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The results of calling `function` with each of these tuples of arguments. The first call that raises ends the rest."""
    return [function(*arguments) for arguments in calls]
