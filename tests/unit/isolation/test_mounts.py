"""Directories in which setuid and device files are of no use."""

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
    """Where others get to, and on which nothing of ours stays mounted."""
    made = Path(tempfile.mkdtemp(prefix="offerd mounts "))
    made.chmod(0o711)
    (made / "inner").mkdir()
    (made / "inner").chmod(0o755)
    yield made
    mounts.release_below(made)
    shutil.rmtree(made)


def id_by(program: Path) -> str:
    """Who a setuid program of root's is for user nobody."""
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    done = subprocess.run([program, "-u"], capture_output=True, text=True, user=65534, check=True)
    return done.stdout.strip()


def test_a_setuid_file_lends_nothing_there_until_it_is_released(folder: Path) -> None:
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


def test_what_is_below_a_directory_is_released_whatever_its_name(folder: Path) -> None:
    odd = folder / "a \\ b\n" / "sandbox"
    odd.mkdir(parents=True)
    for path in (folder / "inner", odd):
        mounts.make_harmless(path)
    mounts.release_below(folder)
    assert not [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "offerd\\040mounts" in line
    ]


def test_what_cannot_be_mounted_is_told_and_nothing_is_left_half_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mounts.is_harmless(folder):
        pytest.skip("the directory of temporary files is mounted nosuid")
    monkeypatch.setattr(mounts, "MS_REMOUNT", 0)  # then the second step is a bind mount of nothing
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
def test_the_upper_layer_of_a_root_is_found_where_the_kernel_has_it(
    tmp_path: Path, line: str, found: list[str]
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_text(f"{line}\n")
    assert mounts.upper_layers(7, tmp_path) == found
    assert mounts.upper_layers(8, tmp_path) == []
