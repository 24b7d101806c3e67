"""What `--input` names: paths, data sets, several with commas, and patterns of them as Hadoop has them.

Commas, braces and signs of patterns count only where there is no file of that very name. What a pattern cannot look into is an
error, as with a directory: nothing is left out in silence.
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
    """All that these name: paths that are there or not, sets by name or pattern. Raises `BadInput`."""
    return [found for text in texts for part in _parts(text) for found in _expand(part)]


def is_pattern(text: str) -> bool:
    return bool(_MAGIC.search(text))


def matches(names: Iterable[str], pattern: str) -> list[str]:
    """Those names that a pattern without slashes means; what begins with `.` or `_` only if the pattern does, too."""
    found = []
    for one in _alternatives(pattern):
        hides = one[:1] not in ("_", ".", "\\")
        glob = _ESCAPED.sub(r"[\1]", one).replace("[^", "[!")
        found += [name for name in names if fnmatchcase(name, glob) and not (hides and name[:1] in "._")]
    return sorted(dict.fromkeys(found))


def _parts(text: str) -> list[str]:
    """At the commas that are in no braces and have no backslash before them."""
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
        raise BadInput(f"the input {text!r} names nothing at one of its commas; leave that comma out")
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
    """What `{a,b}` in it stands for, all of them."""
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
    """The paths below `base` ("" or with a slash at its end) that these components mean."""
    first, *rest = components
    if not is_pattern(first):
        names: Iterable[str] = [_ESCAPED.sub(r"\1", first)]
    else:
        try:
            names = matches(os.listdir(base or "."), first)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise BadInput(f"cannot look into {error.filename}: {error.strerror}") from None
    for name in names:
        path = base + name
        if rest:
            yield from _below(f"{path}/", rest)
        elif os.path.lexists(path):
            yield path
