"""Files that decide who may do what: keys, credentials, lists of authorized keys.

Anybody who may write such a file or its directory could change that. So a file is believed only if it and its directory belong
to us or to root, and nobody else may write there.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from offerd.errors import BadInput

MAX_BYTES = 16 << 20
MAX_LINKS = 40
"""As many symbolic links as the kernel follows."""


def read_trusted(path: str | os.PathLike[str], what: str, *, secret: bool = False) -> bytes:
    """The contents of a file. `secret`: others may not even read it.

    Raises `BadInput` with one line if others may change it, and `OSError` if it cannot be read.
    """
    name = os.fspath(path)
    with open(name, "rb", opener=_open) as file:
        _check(os.fstat(file.fileno()), name, what, secret=secret)
        for directory in _directories(name):
            check_directory(directory or ".", what)
        return file.read(MAX_BYTES)


def _open(name: str, flags: int) -> int:
    """Open without waiting: a named pipe without a writer reads as empty."""
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _directories(name: str) -> set[str]:
    """The directory of the file, and of each link on the way to it."""
    found = {os.path.dirname(os.path.realpath(name)), os.path.dirname(name)}
    for _ in range(MAX_LINKS):
        if not os.path.islink(name):
            break
        name = os.path.join(os.path.dirname(name), os.readlink(name))
        found.add(os.path.dirname(name))
    return found


def check_directory(path: str | os.PathLike[str], what: str) -> None:
    """Raises `BadInput` if others could replace `what` in this directory with a file of their own."""
    name = os.fspath(path)
    _check(os.stat(name), name, f"the directory of {what}:")


def _check(status: os.stat_result, path: str, what: str, *, secret: bool = False) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        owners = "root's" if os.geteuid() == 0 else f"{_name_of(os.geteuid())}'s or root's"
        raise BadInput(f"{what} {path} belongs to {_name_of(status.st_uid)}; it must be {owners}")
    if secret and mode & 0o077:
        raise BadInput(f"others may read {what} {path} (mode {mode:04o}): chmod 600 {path}")
    # In a directory with the sticky bit, such as /tmp, others cannot replace our files.
    if mode & 0o022 and not (stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX):
        raise BadInput(f"others may write {what} {path} (mode {mode:04o}): chmod go-w {path}")


def _name_of(uid: int) -> str:
    import pwd  # only needed for an error

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def replace_file(path: str | os.PathLike[str], text: str, mode: int) -> None:
    """Write a file as a whole: readers see the old or the new contents, also after a power failure. Raises `OSError`."""
    new = f"{os.fspath(path)}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        os.unlink(new)  # left by an earlier process of this pid that was killed
    try:
        with open(os.open(new, flags, mode), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise
