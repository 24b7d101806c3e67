"""A descriptor that refers to one process for good, even if its number is reused (`man pidfd_open`)."""

from __future__ import annotations

import errno
import os

# Kernels before 6.15 return EINVAL for a process that is just being reaped, and for a thread's number; later ones ESRCH and
# ENOENT. With flags of 0, EINVAL has no other cause.
_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)


def open_pidfd(pid: int) -> int | None:
    """A pidfd of the process with this number now (a zombie, too); None if there is none. The caller closes it."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return None
        raise
