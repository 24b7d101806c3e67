"""POSIX access lists, as far as we need them: one more user who may pass through a directory.

Kept by the kernel as an extended attribute (linux/posix_acl_xattr.h): a version, then entries of a tag, permissions and an
id, in the order of their tags and ids.
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
    """Let this user pass through by name, in addition to those who may: nobody lists or writes there but the owner.

    Raises `OSError`, `ENOTSUP` among others where the file system has no such lists.
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
