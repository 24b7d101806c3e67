"""The C library, for system calls that Python's own does not offer."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def failure(what: str) -> OSError:
    """An error for the C call that has just failed: `what`, and the reason in errno."""
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")
