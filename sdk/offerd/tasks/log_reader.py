"""Reads one growing file of a sandbox from its beginning, through rotations, and counts the bytes.

A log that has reached its size is renamed to `NAME.1`, and a new one begun. The `ETag` of an answer identifies the file (it
holds the inode): so a reader notices that the file was rotated, and reads the rest of the old one first.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from typing import NamedTuple

from offerd.tasks.task_output import EVERYTHING


class Answer(NamedTuple):
    """A file server's answer. `tag` identifies the file; None if there is no such file."""

    tag: str | None
    content: bytes = b""


MAX_DIGITS = 20
"""Most digits of a file's size."""
ANOTHER = "another"
"""Tag of a file that is shorter than what was read of it: file systems reuse inodes at once."""


def answer_of(response: http.client.HTTPResponse, content: bytes, offset: int) -> Answer | None:
    """The answer to a request for a range from `offset`; None if it is an error."""
    tag = response.getheader("ETag") or ""
    match response.status:
        case http.client.OK:  # the server does not know ranges, or the file is empty
            return Answer(tag, content[offset:])
        case http.client.PARTIAL_CONTENT:
            return Answer(tag, content)
        case http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return Answer(ANOTHER if _size(response) < offset else tag)
        case http.client.NOT_FOUND:
            return Answer(None)
    return None


def _size(response: http.client.HTTPResponse) -> int:
    """The file's size from `Content-Range: bytes */SIZE`; without that, the largest possible."""
    size = (response.getheader("Content-Range") or "").rpartition("/")[2]
    return int(size) if size.isascii() and size.isdigit() and len(size) < MAX_DIGITS else sys.maxsize


class LogReader:
    """`get` asks for the file at a path, from an offset; its errors pass through. `has_gaps`: a part was removed before it was
    read.
    """

    def __init__(self, get: Callable[[str, int], Answer], path: str) -> None:
        self._get = get
        self._path = path
        self._tag: str | None = None  # identifies the file being read; None before the first byte
        self._offset = 0
        self._is_in_old = False
        self.has_gaps = False
        self.received_bytes = 0
        self.free_bytes = 0
        """So many bytes of this stream are not needed any more: those in files that were read to their ends. See `OutputRead`.
        """

    def read(self) -> bytes:
        """The next piece; empty if there is nothing new now."""
        if self._tag is None:
            return self._begin()
        return self._read_old() if self._is_in_old else self._read_current()

    def missing_bytes(self, written_bytes: int) -> int:
        """How many of `written_bytes` were missed; to be called when everything that is there has been read."""
        return max(0, written_bytes - self.received_bytes)

    def gone_bytes(self) -> int:
        """How many bytes were rotated away before those that are there now, according to the note beside an executor's log."""
        note = self._get(f"{self._path}.gone", 0)
        text = note.content[: MAX_DIGITS + 1]
        return int(text) if text.isdigit() and len(text) < MAX_DIGITS else 0

    def _begin(self) -> bytes:
        current = self._get(self._path, 0)
        if current.tag is None:
            return b""
        # A late reader begins with the older part.
        old = self._get(f"{self._path}.1", 0)
        return self._enter(current if old.tag is None else old, is_old=old.tag is not None)

    def _read_current(self) -> bytes:
        current = self._get(self._path, self._offset)
        if current.tag == self._tag:
            return self._move(current.content)
        # It was rotated meanwhile; or it does not exist for a moment, between the renaming and the next byte.
        return self._read_old()

    def _read_old(self) -> bytes:
        old = self._get(f"{self._path}.1", self._offset)
        if old.tag == self._tag and old.content:
            self._is_in_old = True
            return self._move(old.content)
        # The old file may be at its end. It is, if it still ends here once the new file exists.
        current = self._get(self._path, 0)
        old = self._get(f"{self._path}.1", self._offset)
        if old.tag == self._tag:
            self._is_in_old = True
            if old.content or current.tag is None:
                return self._move(old.content)
            self.free_bytes = EVERYTHING if self.has_gaps else self.received_bytes
            return self._enter(current, is_old=False)
        if self._get(self._path, self._offset).tag == self._tag:  # renamed between two requests
            self._is_in_old = False
            return b""
        self.has_gaps = True
        self.free_bytes = EVERYTHING  # some is lost already: nobody should wait for this reader
        self._tag = None
        return self._begin()

    def _enter(self, answer: Answer, *, is_old: bool) -> bytes:
        self._tag, self._offset, self._is_in_old = answer.tag, 0, is_old
        return self._move(answer.content)

    def _move(self, content: bytes) -> bytes:
        self._offset += len(content)
        self.received_bytes += len(content)
        return content
