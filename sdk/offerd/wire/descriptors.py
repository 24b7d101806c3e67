"""The limit on open files and connections: a daemon raises its own to the hard limit, and its children get the old one back."""

from __future__ import annotations

import resource

_before = resource.getrlimit(resource.RLIMIT_NOFILE)


def descriptors() -> int:
    """How many descriptors this process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def raise_limit() -> None:
    """Raise our own soft limit to the hard one. A login shell's is 1024, and each connection takes a descriptor; one that
    cannot be accepted for want of a descriptor would be retried in a busy loop.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def restore_limit(pid: int) -> None:
    """Give a child the soft limit that we were started with: programs that use select(2) rely on it."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_before[0], hard))
