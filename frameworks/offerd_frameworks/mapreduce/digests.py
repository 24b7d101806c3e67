"""Verifies bytes from a slave's file server: they are used only if they are what was written, whoever has held them since.

Digests are SHA-256. They are sent over connections with keys: in the descriptions of tasks, and from there in reports. A task
leaves its report in a file; so each task has a key, which is only in its description, and the report is sealed with it
(HMAC-SHA256). The manifest of a data set is what all slaves that hold the set agree on.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from offerd_frameworks.mapreduce.failures import TransferError

DIGEST_BYTES = 32
_PART_BYTES = 1 << 20


class WrongDigest(TransferError):
    """The bytes differ from those whose digest was taken."""


def of_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_part(file: int, offset: int, length: int) -> str:
    """The SHA-256 of a part of an open file."""
    digest = hashlib.sha256()
    while length and (part := os.pread(file, min(length, _PART_BYTES), offset)):
        digest.update(part)
        offset += len(part)
        length -= len(part)
    return digest.hexdigest()


def of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check(found: str, expected: str, what: str) -> None:
    """Raise `WrongDigest` unless both digests are the same."""
    if not hmac.compare_digest(found, expected):
        raise WrongDigest(f"{what} has changed (its SHA-256 differs)")


def seal(content: bytes, key: str) -> bytes:
    """The content, after a code that proves who wrote it."""
    return _code(content, key) + b"\n" + content


def unseal(sealed: bytes, key: str, what: str) -> bytes:
    """The content that was sealed. Raises `WrongDigest` unless it was sealed with this key."""
    code, _, content = sealed.partition(b"\n")
    if not hmac.compare_digest(code, _code(content, key)):
        raise WrongDigest(f"{what} was not written by the task that it is said to come from")
    return content


def _code(content: bytes, key: str) -> bytes:
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest().encode()
