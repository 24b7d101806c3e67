"""Directories in which setuid and device files have no effect."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from offerd_isolation import mounts

pytestmark = pytest.mark.root


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that all users can reach, and on which nothing stays mounted."""
    made = Path(tempfile.mkdtemp(prefix="offerd mounts "))
    made.chmod(0o711)
    (made / "inner").mkdir()
    (made / "inner").chmod(0o755)
    yield made
    mounts.release_below(made)
    shutil.rmtree(made)


def id_by(program: Path) -> str:
    """The effective user of a setuid program of root that user nobody runs."""
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    done = subprocess.run([program, "-u"], capture_output=True, text=True, user=65534, check=True)
    return done.stdout.strip()


def test_setuid_files_have_no_effect_until_the_directory_is_released(folder: Path) -> None:
    inner = folder / "inner"
    if mounts.is_harmless(inner):
        pytest.skip("the directory of temporary files is mounted nosuid")
    assert id_by(inner / "before") == "0"
    for _ in range(2):
        mounts.make_harmless(inner)
        assert mounts.is_harmless(inner)
    assert id_by(inner / "id") == "65534"
    mounts.release(inner)
    assert id_by(inner / "id") == "0"
    mounts.release(inner)


def test_all_mounts_below_a_directory_are_released(folder: Path) -> None:
    odd = folder / "a \\ b\n" / "sandbox"
    odd.mkdir(parents=True)
    for path in (folder / "inner", odd):
        mounts.make_harmless(path)
    mounts.release_below(folder)
    assert not [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "offerd\\040mounts" in line
    ]


def test_a_failed_mount_is_reported_and_undone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if mounts.is_harmless(folder):
        pytest.skip("the directory of temporary files is mounted nosuid")
    monkeypatch.setattr(mounts, "MS_REMOUNT", 0)  # so that the second step fails
    with pytest.raises(OSError, match="nosuid"):
        mounts.make_harmless(folder / "inner")
    assert "offerd\\040mounts" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "114 88 0:54 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/var/x\\040y/diff,workdir=/w",
            ["/var/x y/diff"],
        ),
        ("114 88 0:54 / /tmp rw - overlay overlay rw,upperdir=/other", []),
        ("114 88 254:0 / / rw,relatime master:5 - ext4 /dev/vda rw", []),
    ],
)
def test_the_upper_layer_of_an_overlay_root_is_found(tmp_path: Path, line: str, found: list[str]) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_text(f"{line}\n")
    assert mounts.upper_layers(7, tmp_path) == found
    assert mounts.upper_layers(8, tmp_path) == []
