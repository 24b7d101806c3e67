"""Checkpoints: whole or not at all, and damage is always noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from offerd.ids import SlaveID
from offerd_slave import checkpoint
from offerd_slave.checkpoint import DamagedCheckpoint, quarantine, read_checkpoint, write_checkpoint
from offerd_slave.records import FORMAT, ProcessCheckpoint, SlaveCheckpoint

OBJECT = SlaveCheckpoint(SlaveID("s1"), "boot", 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "slave.ckpt", OBJECT)
    return tmp_path / "slave.ckpt"


def test_a_written_checkpoint_can_be_read_and_is_private(path: Path) -> None:
    assert read_checkpoint(path, SlaveCheckpoint) == OBJECT
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_writing_replaces(path: Path) -> None:
    write_checkpoint(path, SlaveCheckpoint(SlaveID("s2"), "boot"))
    assert read_checkpoint(path, SlaveCheckpoint).slave_id == "s2"


def test_a_missing_file_raises_another_error_than_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none", SlaveCheckpoint)


def test_truncation_at_every_byte_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedCheckpoint):
            read_checkpoint(path, SlaveCheckpoint)


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(DamagedCheckpoint):
                read_checkpoint(path, SlaveCheckpoint)


def test_bytes_behind_the_end_are_noticed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(path, SlaveCheckpoint)


def test_a_newer_format_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", FORMAT + 1)
        write_checkpoint(path, OBJECT)
    with pytest.raises(DamagedCheckpoint, match="newer than this slave"):
        read_checkpoint(path, SlaveCheckpoint)


def test_another_type_is_noticed(path: Path) -> None:
    write_checkpoint(path, ProcessCheckpoint("boot", 1, 2))
    with pytest.raises(DamagedCheckpoint, match="not a SlaveCheckpoint"):
        read_checkpoint(path, SlaveCheckpoint)


def test_a_directory_in_place_of_a_checkpoint_counts_as_damage(tmp_path: Path) -> None:
    (tmp_path / "slave.ckpt").mkdir()
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(tmp_path / "slave.ckpt", SlaveCheckpoint)


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(path, SlaveCheckpoint(SlaveID("new"), "boot"))
    assert read_checkpoint(path, SlaveCheckpoint) == OBJECT
    assert list(path.parent.iterdir()) == [path]


def test_quarantine_moves_and_never_replaces(path: Path, tmp_path: Path) -> None:
    aside = tmp_path / "quarantine"
    data = path.read_bytes()
    first = quarantine(path, aside)
    path.write_bytes(b"second")
    second = quarantine(path, aside)
    assert first != second
    assert (first.read_bytes(), second.read_bytes()) == (data, b"second")
    assert not path.exists()
