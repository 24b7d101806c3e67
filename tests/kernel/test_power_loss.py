"""The power fails: a device loses everything that was not written to it, and the slave's files are read after that (F14).

device-mapper's `flakey` target drops all writes from one moment on, as the device of a host without power does; what the file
system still holds in memory goes with the unmount (Documentation/admin-guide/device-mapper/dm-flakey.rst).
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from offerd.ids import FrameworkID, SlaveID, TaskID
from offerd.messages import UpdateID
from offerd_slave.checkpoint import read_checkpoint, write_checkpoint
from offerd_slave.journal import Journal, parse
from offerd_slave.records import SlaveCheckpoint, StatusAcknowledged

NAME = "offerd-power"
SECTORS = 64 * 2048  # 64 MiB
KEPT = 5
"""Records that a compaction leaves."""
CUTS = 6

WRITER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from kernel.test_power_loss import write_for_ever
write_for_ever(Path(sys.argv[1]))
"""


def write_for_ever(directory: Path) -> None:
    """Write number after number with each of the slave's methods; print each when it is on the disk."""
    journal = Journal(directory / "tasks.journal")
    number = 0
    while True:
        number += 1
        write_checkpoint(directory / "slave.ckpt", checkpoint(number))
        journal.append([record(number)])
        journal.sync()
        print(number, flush=True)
        if number % 7 == 0:
            journal.compact(record(n) for n in range(number - KEPT + 1, number + 1))


def checkpoint(number: int) -> SlaveCheckpoint:
    return SlaveCheckpoint(SlaveID(f"S-{number}"), "x" * (number % 3000), epoch=number)


def record(number: int) -> StatusAcknowledged:
    padding: list[UpdateID] = [(TaskID("x" * 40), each) for each in range(number % 50)]
    return StatusAcknowledged(FrameworkID(f"F-{number}"), padding)


def run(*words: str | Path) -> str:
    """What it prints."""
    done = subprocess.run(words, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


class Disk:
    """A device whose power can be cut, with an ext4 on it."""

    def __init__(self, loop: str, mount_point: Path) -> None:
        self.loop, self.mount_point = loop, mount_point

    def _table(self, drops_writes: bool) -> str:
        up_s, down_s = ("0 3600 1 drop_writes" if drops_writes else "3600 0").split(" ", 1)
        return f"0 {SECTORS} flakey {self.loop} 0 {up_s} {down_s}"

    def create(self) -> None:
        run("dmsetup", "create", NAME, "--table", self._table(False))
        run("mkfs.ext4", "-q", self._device)
        self.mount()

    @property
    def _device(self) -> str:
        # The kernel's own name for it: one in /dev/mapper is udev's to make, if there is one.
        minor = run("dmsetup", "info", "-c", "--noheadings", "-o", "minor", NAME)
        return f"/dev/dm-{minor}"

    def mount(self) -> None:
        run("mount", self._device, self.mount_point)

    def cut(self) -> None:
        """From now on nothing reaches the device. (`--nolockfs`: the file system is not synced before.)"""
        self._load(drops_writes=True)

    def power_up(self) -> None:
        """What was in memory is gone; the file system recovers from what is there."""
        run("umount", self.mount_point)
        self._load(drops_writes=False)
        self.mount()

    def _load(self, drops_writes: bool) -> None:
        run("dmsetup", "load", NAME, "--table", self._table(drops_writes))
        run("dmsetup", "suspend", "--nolockfs", NAME)
        run("dmsetup", "resume", NAME)


@contextmanager
def disk() -> Iterator[Disk]:
    for module in ("loop", "dm-flakey"):
        run("modprobe", module)
    with tempfile.TemporaryDirectory() as directory:
        image, mount_point = Path(directory, "image"), Path(directory, "mnt")
        mount_point.mkdir()
        with image.open("wb") as file:
            file.truncate(SECTORS * 512)
        loop = run("losetup", "--find", "--show", image)
        made = Disk(loop, mount_point)
        try:
            made.create()
            yield made
        finally:
            for words in (["umount", str(mount_point)], ["dmsetup", "remove", NAME]):
                subprocess.run(words, capture_output=True, timeout=60)
            run("losetup", "--detach", made.loop)


@pytest.fixture(scope="module")
def power() -> Iterator[Disk]:
    with disk() as made:
        yield made


def test_unsynced_writes_are_lost_on_this_device(power: Disk) -> None:
    """Otherwise the next test would prove nothing."""
    file = power.mount_point / "unsynced"
    file.write_bytes(b"x" * 10_000)
    power.cut()
    power.power_up()
    assert not file.exists() or file.read_bytes() != b"x" * 10_000


@pytest.mark.parametrize("seed", range(CUTS))
def test_checkpoint_and_journal_survive_a_power_loss_whole_and_nothing_reported_is_lost(
    power: Disk, seed: int
) -> None:
    directory = power.mount_point / f"work-{seed}"
    directory.mkdir()
    said = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        try:
            until = random.Random(seed).randint(20, 120)
            while said < until:
                said = int(writer.stdout.readline())
            power.cut()
        finally:
            writer.kill()
            writer.wait()
    power.power_up()

    saved = read_checkpoint(directory / "slave.ckpt", SlaveCheckpoint)
    assert saved == checkpoint(saved.epoch), "one of those that were written, whole"
    assert saved.epoch >= said
    records, _ = parse((directory / "tasks.journal").read_bytes())
    last = records[-1]
    numbers = [int(each.framework_id.removeprefix("F-")) for each in records]
    assert records == [record(number) for number in numbers]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), f"none is missing before {last.framework_id}"
    assert numbers[-1] >= said
