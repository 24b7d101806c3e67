"""Giving up capabilities(7)."""

from __future__ import annotations

import ctypes

from offerd_linux.libc import failure, libc

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_VERSION_3 = 0x20080522
_MOST = 64


def forgo_capabilities() -> None:
    """Empty the bounding set, so that no exec can give any capability again. Those held stay until `drop_capabilities`.

    Raises `OSError`.
    """
    for capability in range(_MOST):
        if libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            return  # the kernel has no more capabilities
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise failure(f"cannot forgo capability {capability}")


def drop_capabilities() -> None:
    """Drop all capabilities, also root's, with capset(2). Raises `OSError`."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        raise failure("cannot drop capabilities")
