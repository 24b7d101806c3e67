"""Names of images: how the engine completes them, and which ones a slave may run.

Sources: github.com/distribution/reference (how a short name is completed), `docker pull` on digests beside tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

HUB, OFFICIAL = "docker.io", "library"
_ID = re.compile(r"sha256:[0-9a-f]{64}")
"""An image by its id, whatever its names."""


class Reference(NamedTuple):
    """A name in its parts. If it has a digest, the engine ignores the tag."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(name: str) -> Reference:
    """The parts of a name, with the repository in full: that of `debian` is `docker.io/library/debian`. No tag is added."""
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
    """The full name to give to the engine, which could take a short one for the start of some image's id."""
    found = parse(name)
    if not found.repository:
        return found.digest
    return str(found if found.tag or found.digest else found._replace(tag="latest"))


def is_allowed(name: str, default: str, patterns: Iterable[str]) -> bool:
    """Whether this is the slave's default image, or one that a pattern matches."""
    if default and complete(name) == complete(default):
        return True
    return any(_matches(pattern, name) for pattern in patterns)


def _matches(pattern: str, name: str) -> bool:
    """`*` matches any characters. A pattern without tag and digest matches all versions of an image. One with only a tag
    matches no name with a digest, as the engine ignores the tag of such a name."""
    if pattern == "*":
        return True
    wanted, asked = parse(pattern), parse(complete(name))
    if not fnmatchcase(asked.repository, wanted.repository):
        return False
    if asked.digest or wanted.digest:
        return asked.digest == wanted.digest or not (wanted.digest or wanted.tag)
    return fnmatchcase(asked.tag, wanted.tag or "*")
