"""A descriptor that means one process for good, whoever has its number later (`man pidfd_open`)."""

from __future__ import annotations

import errno
import os

# EINVAL is what kernels before 6.15 say of a number whose process is just being reaped, and of a thread's; later ones have
# ESRCH and ENOENT for these. With flags of 0 it has no other cause.
_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)


def open_pidfd(pid: int) -> int | None:
    """A pidfd of the process that has this number now (a zombie too); None if none has. The caller closes it."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return None
        raise
