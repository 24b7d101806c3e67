"""Names of images: what the engine takes one for, and which ones a slave may run.

Sources: github.com/distribution/reference (how a short name is completed), `docker pull` on digests beside tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

HUB, OFFICIAL = "docker.io", "library"
_ID = re.compile(r"sha256:[0-9a-f]{64}")
"""An image itself, whatever its names."""


class Reference(NamedTuple):
    """A name in its parts. With a digest the engine disregards the tag."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(name: str) -> Reference:
    """`debian` is `docker.io/library/debian`, without a tag: it has one only where the name has."""
    if _ID.fullmatch(name):
        return Reference("", "", name)
    rest, _, digest = name.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = rest, ""
    registry, slash, path = repository.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        registry, path = HUB, repository
    if registry in (HUB, f"index.{HUB}"):
        registry, path = HUB, path if "/" in path else f"{OFFICIAL}/{path}"
    return Reference(f"{registry}/{path}", tag, digest)


def complete(name: str) -> str:
    """What the engine is to be asked for. In full, so that it does not take the name for the start of some image's id."""
    found = parse(name)
    if not found.repository:
        return found.digest
    return str(found if found.tag or found.digest else found._replace(tag="latest"))


def is_allowed(name: str, default: str, patterns: Iterable[str]) -> bool:
    """Whether this is the slave's own image, or one that a pattern stands for."""
    if default and complete(name) == complete(default):
        return True
    return any(_stands_for(pattern, name) for pattern in patterns)


def _stands_for(pattern: str, name: str) -> bool:
    """`*` for any characters. Without a tag or a digest a pattern stands for all versions of what it names. One with a tag
    alone allows no digest: the tag beside that says nothing."""
    if pattern == "*":
        return True
    wanted, asked = parse(pattern), parse(complete(name))
    if not fnmatchcase(asked.repository, wanted.repository):
        return False
    if asked.digest or wanted.digest:
        return asked.digest == wanted.digest or not (wanted.digest or wanted.tag)
    return fnmatchcase(asked.tag, wanted.tag or "*")
