"""Programs that a test starts: if the test fails they are ended, so that they do not run on beside other tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

END_S = 10.0
"""How long a program may take to end after SIGINT, with all that it has started, before it is killed."""

_started: list[subprocess.Popen[bytes]] = []
"""Programs started by the running test."""


def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Like `subprocess.Popen`, but the program is ended if the test fails."""
    program = subprocess.Popen(words, **options)
    _started.append(program)
    return program


@contextmanager
def ended_if_it_fails() -> Iterator[None]:
    """If the block raises, end every program that it has started with `start` and that still runs."""
    _started.clear()
    try:
        yield
    except BaseException:
        _end(_started)
        raise
    finally:
        _started.clear()


def _end(programs: list[subprocess.Popen[bytes]]) -> None:
    """End them gracefully, then by SIGKILL, and close the pipes to them."""
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
