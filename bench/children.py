"""Processes of our own that help to measure, and end with us whatever happens."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from offerd_linux.prctl import end_with_parent

START_TIMEOUT_S = 30.0


@contextmanager
def child(main: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run `main(pipe, *arguments)` in a process of its own; gives our end of the pipe."""
    # spawn: a fork of this process could hold its threads' locks
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(main, there, arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.kill()
        process.join()
        here.close()


def _run(main: Callable[..., None], pipe: Connection, arguments: tuple[object, ...]) -> None:
    end_with_parent()
    main(pipe, *arguments)


def receive(pipe: Connection, what: str) -> object:
    """The next thing from a child. Raises `TimeoutError` or, if it has ended, `EOFError`."""
    if not pipe.poll(START_TIMEOUT_S):
        raise TimeoutError(f"waited {START_TIMEOUT_S:g} s in vain for {what}")
    return pipe.recv()
