"""Outputs that wait for their turn."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import pytest

from offerd.errors import OfferdError
from offerd_cli import shelf
from offerd_cli.shelf import Output, Part, Shelf


def content(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    with part:
        return b"".join(iter(lambda: part.read(3), b""))


def taken(of: Shelf, index: int) -> tuple[bytes, bytes] | None:
    output = of.take(index)
    return None if output is None else (content(output.stdout), content(output.stderr))


def test_what_is_put_comes_back_once_in_any_order() -> None:
    held = Shelf()
    held.put(2, Output(b"two", b"oops"))
    held.put(1, Output(io.BytesIO(b"one" * 1000), b""))
    held.put(5, Output(io.BytesIO(b"five"), io.BytesIO(b"err")))
    assert held.indices() == [1, 2, 5]
    assert taken(held, 5) == (b"five", b"err")
    assert taken(held, 1) == (b"one" * 1000, b"")
    assert taken(held, 2) == (b"two", b"oops")
    assert taken(held, 2) is None
    held.close()


def test_memory_is_bounded_and_the_file_begins_anew_when_nothing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shelf, "MEMORY_BYTES", 100)
    held = Shelf()
    for _ in range(3):
        for index in range(30):
            held.put(index, Output(b"%02d" % index * 5, b""))
        assert held._memory_bytes == 100
        assert held._file is not None
        assert os.fstat(held._file.fileno()).st_size == 200
        assert [taken(held, index) for index in range(30)] == [
            (b"%02d" % index * 5, b"") for index in range(30)
        ]
    held.close()


def test_a_full_disk_for_waiting_outputs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OfferdError, match=r"cannot be kept in .*gone: No such file .*--keep-order"):
        Shelf().put(1, Output(io.BytesIO(b"x"), b""))
