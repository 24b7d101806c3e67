"""How bytes are known that come from a slave's file server: whoever holds them there, they are what they were, or not used.

Digests are SHA-256, and travel over the connections with keys: in the descriptions of tasks, and from there in reports. A task
leaves its report in a file; so each has a key of its own, which stands in its description alone, and the report is sealed
with that (HMAC-SHA256). The manifest of a data set is what the slaves that hold the set say of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from offerd_frameworks.mapreduce.failures import TransferError

DIGEST_BYTES = 32
_PART_BYTES = 1 << 20


class WrongDigest(TransferError):
    """What came is not what it was when its digest was taken."""


def of_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_part(file: int, offset: int, length: int) -> str:
    """That of a part of an open file."""
    digest = hashlib.sha256()
    while length and (part := os.pread(file, min(length, _PART_BYTES), offset)):
        digest.update(part)
        offset += len(part)
        length -= len(part)
    return digest.hexdigest()


def of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check(found: str, expected: str, what: str) -> None:
    """Raises `WrongDigest` unless both are the same."""
    if not hmac.compare_digest(found, expected):
        raise WrongDigest(f"{what} is not what it was (its SHA-256 is another)")


def seal(content: bytes, key: str) -> bytes:
    """The content behind the code that shows who wrote it."""
    return _code(content, key) + b"\n" + content


def unseal(sealed: bytes, key: str, what: str) -> bytes:
    """What `seal` was given. Raises `WrongDigest` if that was not with this key."""
    code, _, content = sealed.partition(b"\n")
    if not hmac.compare_digest(code, _code(content, key)):
        raise WrongDigest(f"{what} was not written by the task that it is said to be of")
    return content


def _code(content: bytes, key: str) -> bytes:
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest().encode()
