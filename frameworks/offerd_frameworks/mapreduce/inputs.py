"""What `--input` may name: paths, data sets, several of them with commas, and patterns as in Hadoop.

Commas, braces and wildcards have no meaning if there is a file of exactly that name. A directory that a pattern cannot read is
an error: nothing is left out silently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import pairwise

from offerd import BadInput

DATA_PREFIX = "data:"
_MAGIC = re.compile(r"(?<!\\)[*?\[{]")
_ESCAPED = re.compile(r"\\(.)")


def expand(texts: Iterable[str]) -> list[str]:
    """Everything that these texts name: paths, existing or not, and sets by name or pattern. Raises `BadInput`."""
    return [found for text in texts for part in _parts(text) for found in _expand(part)]


def is_pattern(text: str) -> bool:
    return bool(_MAGIC.search(text))


def matches(names: Iterable[str], pattern: str) -> list[str]:
    """The names that match a pattern without slashes; those that begin with `.` or `_` only if the pattern does, too."""
    found = []
    for one in _alternatives(pattern):
        hides = one[:1] not in ("_", ".", "\\")
        glob = _ESCAPED.sub(r"[\1]", one).replace("[^", "[!")
        found += [name for name in names if fnmatchcase(name, glob) and not (hides and name[:1] in "._")]
    return sorted(dict.fromkeys(found))


def _parts(text: str) -> list[str]:
    """Split at commas that are not in braces and not after a backslash."""
    if os.path.lexists(text):
        return [text]
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"\\.|[{},]", text):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if found[0] == "," and depth <= 0:
            parts.append(text[start : found.start()])
            start = found.end()
    parts.append(text[start:])
    if not all(parts):
        raise BadInput(f"the input {text!r} has a comma with nothing before or after it; remove that comma")
    return parts


def _expand(part: str) -> list[str]:
    if part.startswith(DATA_PREFIX) or os.path.lexists(part):
        return [part]
    if not is_pattern(part):
        return [_ESCAPED.sub(r"\1", part)]
    if found := sorted({path for one in _alternatives(part) for path in _below("", one.split("/"))}):
        return found
    raise BadInput(f"no input matches {part}")


def _alternatives(pattern: str) -> Iterator[str]:
    """All texts that the braces `{a,b}` of a pattern stand for."""
    depth, commas, start = 0, [], -1
    for found in re.finditer(r"\\.|[{},]", pattern):
        if found[0] == "{":
            depth += 1
            start = found.start() if depth == 1 else start
        elif found[0] == "," and depth == 1:
            commas.append(found.start())
        elif found[0] == "}" and depth:
            depth -= 1
            if not depth:
                edges = [start, *commas, found.start()]
                for left, right in pairwise(edges):
                    yield from _alternatives(
                        pattern[:start] + pattern[left + 1 : right] + pattern[found.end() :]
                    )
                return
    yield pattern


def _below(base: str, components: list[str]) -> Iterator[str]:
    """The paths below `base` ("" or with a slash at its end) that match these components."""
    first, *rest = components
    if not is_pattern(first):
        names: Iterable[str] = [_ESCAPED.sub(r"\1", first)]
    else:
        try:
            names = matches(os.listdir(base or "."), first)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise BadInput(f"cannot read the directory {error.filename}: {error.strerror}") from None
    for name in names:
        path = base + name
        if rest:
            yield from _below(f"{path}/", rest)
        elif os.path.lexists(path):
            yield path
