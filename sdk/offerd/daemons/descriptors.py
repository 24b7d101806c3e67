"""How many files and connections a daemon may have open: as many as the host lets it, and what it starts as many as before."""

from __future__ import annotations

import resource

_before = resource.getrlimit(resource.RLIMIT_NOFILE)


def descriptors() -> int:
    """How many we may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def raise_limit() -> None:
    """Raise our own soft limit to the hard one. A login shell's is 1024, each connection takes one, and what cannot be accepted
    is tried in a loop."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def restore_limit(pid: int) -> None:
    """Give a child the soft limit that we had: programs that call select(2) rely on it."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_before[0], hard))
