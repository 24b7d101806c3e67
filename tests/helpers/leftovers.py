"""Programs that a test starts and goes on: if it fails half-way they are ended, or they would run on beside other tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

END_S = 10.0
"""For a program to end as by Ctrl-C, with all that it has started, before it is killed."""

_started: list[subprocess.Popen[bytes]] = []
"""By the test that runs."""


def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """As `subprocess.Popen`. Who waits for its end need not care what becomes of it if the test fails."""
    program = subprocess.Popen(words, **options)
    _started.append(program)
    return program


@contextmanager
def ended_if_it_fails() -> Iterator[None]:
    """Ends, if the block raises, every program that it has started here and that still runs."""
    _started.clear()
    try:
        yield
    except BaseException:
        _end(_started)
        raise
    finally:
        _started.clear()


def _end(programs: list[subprocess.Popen[bytes]]) -> None:
    """Politely, then by force; the pipes to them are closed."""
    running = [program for program in programs if program.poll() is None]
    for program in running:
        program.send_signal(signal.SIGCONT)  # a test may have stopped it
        program.send_signal(signal.SIGINT)
    for program in running:
        try:
            program.wait(END_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
    for program in programs:
        for pipe in (program.stdin, program.stdout, program.stderr):
            if pipe is not None:
                pipe.close()
