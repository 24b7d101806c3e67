"""Who runs an executor: a user's name, looked up in the slave before anything is forked.

Looking a name up may open files and sockets (nscd, sssd, LDAP); the zygote, which forks and has none, is told numbers.
"""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

from offerd.errors import BadInput

DEFAULT_USER = "nobody"
"""Runs what names no user, at a slave that runs as root and says nothing else."""


class WrongUser(BadInput, ValueError):
    """Nobody of this name, or nobody this slave may become."""


class Identity(NamedTuple):
    """What a process becomes when it drops its privileges."""

    uid: int
    gid: int
    groups: list[int]


def default(user: str) -> str:
    """Who runs what names no user, by name; "" for a slave whose own user has none. Raises `WrongUser`."""
    if user or os.geteuid() == 0:
        user = user or DEFAULT_USER
        try:
            look_up(user)
        except WrongUser as error:
            raise WrongUser(f"--default-user: {error}") from None
        return user
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def look_up(user: str) -> Identity | None:
    """The identity to drop to; None to stay what the slave is ("" or the slave's own user). Who has root's rights is named
    root: a key that allows every user but that one allows none by another name.

    Raises `WrongUser` for a user that does not exist, or whom this slave may not become.
    """
    if not user:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise WrongUser(
            f"user {user!r} does not exist on this host; create it or name another in the framework"
        ) from None
    if entry.pw_uid == 0 and user != "root":
        raise WrongUser(
            f"user {user!r} is root by another name; executors run as root only where root is named"
        )
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        own = pwd.getpwuid(os.geteuid()).pw_name
        raise WrongUser(f"executors cannot run as {user!r}: this slave runs as {own!r}; run it as root")
    return Identity(entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid))


def names_of(user: str) -> dict[str, str]:
    """What tells a program whom it runs as; nothing for a slave whose own user has no name. Raises `WrongUser`."""
    look_up(user)
    try:
        entry = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        return {}
    return {"HOME": entry.pw_dir, "LOGNAME": entry.pw_name, "USER": entry.pw_name}


def ids_of(user: str) -> tuple[int, int]:
    """Uid and gid of who runs as this user. Raises `WrongUser`."""
    identity = look_up(user)
    return (os.geteuid(), os.getegid()) if identity is None else (identity.uid, identity.gid)
