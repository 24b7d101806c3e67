"""Which files that decide who may do what are believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offerd.credentials.trusted_files import read_trusted
from offerd.errors import BadInput


def test_each_link_on_the_way_lies_where_nobody_else_may_write(tmp_path: Path) -> None:
    """Otherwise, an account that may replace the link decides which of our files is read."""
    for name in ("ours", "open", "real"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "real" / "keys").write_text("good")
    (tmp_path / "open" / "between").symlink_to("../real/keys")
    path = tmp_path / "ours" / "keys"
    path.symlink_to("../open/between")
    assert read_trusted(path, "the file") == b"good"
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BadInput, match=r"others may write the directory of the file: .*/open "):
        read_trusted(path, "the file")


def test_links_in_a_ring_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        read_trusted(tmp_path / "a", "the file")


def test_a_pipe_without_a_writer_reads_as_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert read_trusted(tmp_path / "pipe", "the file") == b""


def test_a_pipe_with_a_writer_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"from a shell's <(...)")
        os.close(writing)
        assert read_trusted(f"/proc/self/fd/{reading}", "the file") == b"from a shell's <(...)"
    finally:
        os.close(reading)


@pytest.mark.root
def test_the_error_names_the_required_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("")
    os.chown(path, 65534, -1)
    with pytest.raises(BadInput, match=r"belongs to nobody; it must be root's$"):
        read_trusted(path, "the file")
