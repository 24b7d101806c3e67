"""Start a program: the one seam between the command executor and the kernel's ways to make a process."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

SECRETS = ("OFFERD_TOKEN", "OFFERD_SLAVE_SOCKET")
"""Of the executor's environment, what its tasks do not get: the way to speak to the slave in its name."""
# What is ignored here (by Python: SIGPIPE and SIGXFSZ; by a parent: perhaps more) would be ignored in the
# child too; handlers are not inherited. Not simply all 62: that costs 10 us a spawn.
_IGNORED_SIGNALS = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
_found: dict[tuple[str, str], str] = {}
_FOUND_KEPT = 1024


def spawn(argv: list[str], env: Mapping[str, str], cwd: str, stdout: int, stderr: int) -> int:
    """Start `argv` in a session of its own, in `cwd`, with nothing on its standard input. Returns its pid.

    Changes the caller's working directory to `cwd`: posix_spawn has no attribute for that (glibc's is newer
    than Python's), and the caller is single-threaded. Raises `OSError` with the file's name: no such program,
    no permission, no such directory.
    """
    os.chdir(cwd)
    path = env.get("PATH", os.defpath)
    key = (argv[0], path)
    program = _found.get(key)
    if program is not None:
        try:
            return _spawn(program, argv, env, stdout, stderr)
        except FileNotFoundError:
            del _found[key]  # moved since: look again
    program = find_program(argv[0], path)
    pid = _spawn(program, argv, env, stdout, stderr)
    if len(_found) >= _FOUND_KEPT:
        _found.clear()
    if program.startswith("/"):  # another task's working directory is another place
        _found[key] = program
    return pid


def _spawn(program: str, argv: list[str], env: Mapping[str, str], stdout: int, stderr: int) -> int:
    # glibc makes the child with CLONE_VFORK: its cost does not grow with the executor's memory. Every other
    # descriptor of the executor is close-on-exec.
    return os.posix_spawn(
        program,
        argv,
        env,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=_IGNORED_SIGNALS,
    )


def find_program(name: str, path: str) -> str:
    """The file that a shell would run for `name`: searched along `path`, a PATH, unless it holds a slash.

    Raises `FileNotFoundError`, or `PermissionError` if there are only files that may not be executed.
    """
    if "/" in name:
        return name
    forbidden = False
    for directory in path.split(os.pathsep):
        candidate = os.path.join(directory or os.curdir, name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            forbidden = True
    code = errno.EACCES if forbidden else errno.ENOENT
    raise OSError(code, os.strerror(code), name)
