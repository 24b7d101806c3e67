"""Jobs of Python functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cloudpickle

from offerd_frameworks.mapreduce.framework import MapReduce
from offerd_frameworks.mapreduce.functions import ENDED, PICKLE, Functions, Pair
from offerd_frameworks.mapreduce.job import Job
from offerd_frameworks.mapreduce.progress import Summary

_RUN = '"$OFFERD_PYTHON" -m offerd_frameworks.mapreduce.functions'


def python_job(
    map: Callable[[str], Iterable[Pair]],
    reduce: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None,
    *,
    combine: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None,
    input: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    reduces: int = 1,
    name: str = "",
    **options: Any,
) -> Job:
    """A job of these functions, for `MapReduce.submit`; `options` are further fields of `Job`."""
    paths = [input] if isinstance(input, str | os.PathLike) else input
    return Job(
        input=tuple(os.fspath(path) for path in paths),
        output=os.fspath(output),
        mapper=f"exec {_RUN} map",
        reducer=f"exec {_RUN} reduce" if reduce is not None else "",
        reduces=reduces if reduce is not None else 0,
        name=name or getattr(map, "__name__", "job"),
        reads_pieces=True,
        ended_by=ENDED,
        staged={PICKLE: cloudpickle.dumps(Functions(map, reduce, combine))},
        **options,
    )


def run(
    map: Callable[[str], Iterable[Pair]],
    reduce: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None,
    *,
    combine: Callable[[Any, Iterator[Any]], Iterable[Pair]] | None = None,
    input: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    reduces: int = 1,
    master: str | None = None,
    **options: Any,
) -> Summary:
    """Run one job to its end, on a framework of its own.

    `map(line)` yields `(key, value)` pairs. `reduce(key, values)` gets all values of one key, and yields pairs, which are the
    lines of the output. `combine` is like `reduce`, and may be applied to some values of a key first. Without `reduce` the
    maps' pairs are the output. `reduce` gets keys and values as they were yielded; `codec` lists the types that allow that, and
    any other type fails the job.

    Raises `BadInput` before anything has begun, and `OfferdError` with the reason if the job fails.
    """
    described = python_job(
        map, reduce, combine=combine, input=input, output=output, reduces=reduces, **options
    )
    with MapReduce(master, name=f"mapreduce {described.title}") as framework:
        return framework.submit(described).result()
