"""Small output is sent with the last status, larger output is in files: never both, never a part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd_executors.output import INLINE_BYTES, Held, Output


def feed(output: Output, data: bytes) -> None:
    """Write as a task would, in portions that a pipe holds."""
    for start in range(0, len(data), 4096):
        os.write(output.write_fd, data[start : start + 4096])
        assert output.read()


def outputs(folder: Path) -> tuple[Held, Output, Output]:
    held = Held()
    return held, Output(f"{folder}/stdout", 1 << 20, held), Output(f"{folder}/stderr", 1 << 20, held)


def close(*pair: Output) -> None:
    for output in pair:
        output.close()


@pytest.mark.parametrize(
    ("out", "err"), [(b"", b""), (b"out", b""), (b"", b"err"), (b"o" * (INLINE_BYTES - 3), b"err")]
)
def test_output_that_is_small_in_all_is_in_the_status_and_in_no_file(
    out: bytes, err: bytes, tmp_path: Path
) -> None:
    held, stdout, stderr = outputs(tmp_path)
    feed(stdout, out)
    feed(stderr, err)
    assert held.outputs() == (out, err)
    assert list(tmp_path.iterdir()) == []
    close(stdout, stderr)


def test_one_byte_too_much_on_either_stream_puts_all_of_both_into_files(tmp_path: Path) -> None:
    held, stdout, stderr = outputs(tmp_path)
    feed(stderr, b"first")
    feed(stdout, b"x" * (INLINE_BYTES - 5))
    feed(stdout, b"y")
    feed(stderr, b" last")
    assert held.outputs() is None
    close(stdout, stderr)
    assert (tmp_path / "stdout").read_bytes() == b"x" * (INLINE_BYTES - 5) + b"y"
    assert (tmp_path / "stderr").read_bytes() == b"first last"


def test_a_stream_without_a_byte_gets_no_file_when_the_other_is_large(tmp_path: Path) -> None:
    held, stdout, stderr = outputs(tmp_path)
    feed(stdout, b"x" * 20_000)
    assert held.outputs() is None
    close(stdout, stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["stdout"]


def test_files_of_output_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _, stdout, stderr = outputs(tmp_path)
        feed(stdout, b"x" * 20_000)
        feed(stderr, b"y")
    finally:
        os.umask(before)
    close(stdout, stderr)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "stdout": 0o600,
        "stderr": 0o600,
    }
