"""Standard input of `offerd mpi`: what the process manager could not pass on is refused before anything starts."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from offerd.errors import BadInput
from offerd_cli.mpi_jobs import MAX_STDIN_BYTES, read_ahead


def piped(data: bytes) -> bytes:
    """What can be read of it through a pipe."""
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), open(writing, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open(read_ahead(reading, lambda _text: None), "rb") as file:
            return file.read()
    finally:
        os.close(reading)
        writer.join()


def test_a_pipe_is_read_to_its_end_before_anything_starts() -> None:
    for size in (0, 1, MAX_STDIN_BYTES):
        assert piped(b"x" * size) == b"x" * size


def test_input_larger_than_the_process_manager_passes_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="65536 bytes"):
        piped(b"x" * (MAX_STDIN_BYTES + 1))
    large = tmp_path / "large"
    large.write_bytes(b"x" * (MAX_STDIN_BYTES + 1))
    with large.open("rb") as file:
        with pytest.raises(BadInput, match="let the program read a file"):
            read_ahead(file.fileno(), lambda _text: None)
        os.lseek(file.fileno(), 1, os.SEEK_SET)
        assert read_ahead(file.fileno(), lambda _text: None) == file.fileno()
