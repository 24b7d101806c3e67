"""The user that an executor runs as: looked up by name, in the slave, before anything is forked.

A look-up may open files and sockets (nscd, sssd, LDAP). The zygote, which forks and has none of these, gets numbers.
"""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

from offerd.errors import BadInput

DEFAULT_USER = "nobody"
"""Default of `--default-user` for a slave that runs as root."""


class WrongUser(BadInput, ValueError):
    """There is no such user, or this slave may not become it."""


class Credentials(NamedTuple):
    """What a process becomes when it drops its privileges (credentials(7))."""

    uid: int
    gid: int
    groups: list[int]


class Account(NamedTuple):
    """A user of this host. `variables` are HOME, LOGNAME and USER; empty if the slave's own user has no name."""

    credentials: Credentials | None  # None: stay the user that the slave is
    uid: int
    gid: int
    variables: dict[str, str]


def default(user: str) -> str:
    """The name of the user for frameworks that name none, from `--default-user`; "" if the slave's own user has no name.

    Raises `WrongUser`.
    """
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


def look_up(user: str) -> Account:
    """The account of this user; "" is the slave's own.

    A user with uid 0 has to be named root: otherwise a key that allows every user but root would allow it by another name.
    Raises `WrongUser` for a user that does not exist, or that this slave may not become.
    """
    own_uid = os.geteuid()
    if not user:
        try:
            return _own(pwd.getpwuid(own_uid))
        except KeyError:
            return Account(None, own_uid, os.getegid(), {})
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
    if entry.pw_uid == own_uid:
        return _own(entry)
    if own_uid != 0:
        own = pwd.getpwuid(own_uid).pw_name
        raise WrongUser(f"executors cannot run as {user!r}: this slave runs as {own!r}; run it as root")
    credentials = Credentials(entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid))
    return Account(credentials, entry.pw_uid, entry.pw_gid, _variables(entry))


def _own(entry: pwd.struct_passwd) -> Account:
    return Account(None, os.geteuid(), os.getegid(), _variables(entry))


def _variables(entry: pwd.struct_passwd) -> dict[str, str]:
    return {"HOME": entry.pw_dir, "LOGNAME": entry.pw_name, "USER": entry.pw_name}
