"""Child processes for measurements; they end with this process, whatever happens."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from offerd_linux.prctl import end_with_parent

START_TIMEOUT_S = 30.0


@contextmanager
def child(main: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run `main(pipe, *arguments)` in a child process; gives our end of the pipe."""
    # spawn: a fork of this process could inherit locks that its threads hold
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
    """The next object from a child. Raises `TimeoutError`, or `EOFError` if the child has ended."""
    if not pipe.poll(START_TIMEOUT_S):
        raise TimeoutError(f"waited {START_TIMEOUT_S:g} s in vain for {what}")
    return pipe.recv()
