"""Programs that execve(2) refuses, although a shell can run them: scripts without a `#!` line."""

from __future__ import annotations

import errno

SHELL = b"/bin/sh"
LINE_BYTES = 256
"""So much of a file is read to distinguish a script from instructions for another machine."""


def as_script(program: bytes, argv: list[bytes], error: OSError) -> list[bytes]:
    """The words that run a program which the kernel cannot start. As with execvp(3), a text without `#!` is a script for the
    shell. Raises `error` if it is not such a script.
    """
    if error.errno != errno.ENOEXEC:
        raise error
    try:
        with open(program, "rb") as file:
            first_line = file.readline(LINE_BYTES)
    except OSError:
        raise error from None
    if b"\0" in first_line:
        raise error
    return [SHELL, b"./" + program if program.startswith(b"-") else program, *argv[1:]]
