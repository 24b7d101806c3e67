"""POSIX access lists, as far as the slave needs them: let one more user pass through a directory.

The kernel keeps them as an extended attribute (linux/posix_acl_xattr.h): a version, then entries with a tag, permissions and
an id, in the order of tags and ids.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

ATTRIBUTE = "system.posix_acl_access"
VERSION = 2
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
NO_ID = 0xFFFFFFFF
ALL, SEARCH = 7, 1
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")


def allow_search(directory: int | Path, uid: int) -> None:
    """Let this user pass through the directory, in addition to others that may. Only the owner can list or write it.

    Raises `OSError`, with `ENOTSUP` if the file system has no access lists.
    """
    users = {uid, *_users(directory)}
    entries = [
        (USER_OBJ, ALL, NO_ID),
        *((USER, SEARCH, each) for each in sorted(users)),
        (GROUP_OBJ, 0, NO_ID),
        (MASK, SEARCH, NO_ID),
        (OTHER, 0, NO_ID),
    ]
    packed = _HEADER.pack(VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)
    os.setxattr(directory, ATTRIBUTE, packed)


def _users(directory: int | Path) -> set[int]:
    try:
        found = os.getxattr(directory, ATTRIBUTE)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return set()
        raise
    return {uid for tag, _, uid in _ENTRY.iter_unpack(found[_HEADER.size :]) if tag == USER}
