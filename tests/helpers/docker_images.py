"""Root file systems for test images, made from files of this host, without a registry."""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
HELPERS = Path(__file__).parent
_UNUSED = {"test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "site-packages", "__pycache__"}
_STATIC = f"config-{sys.version_info[0]}.{sys.version_info[1]}-x86_64-linux-gnu"
_PACKAGES = ("msgspec", "zmq", "cloudpickle", "msgpack")


def busybox_image() -> bytes:
    """One static program, its links, and nothing else: no libc, no Python."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("bin", "tmp", "etc"):
            _directory(tar, name)
        tar.add(BUSYBOX.resolve(), "bin/busybox")
        for name in subprocess.run(
            [BUSYBOX, "--list"], capture_output=True, text=True, check=True
        ).stdout.split():
            if name != "busybox":
                _link(tar, f"bin/{name}", "busybox")
        text = b"root:x:0:0::/:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return content.getvalue()


def python_image() -> bytes:
    """This Python with the modules of its executors, and busybox, as in an image made for offerd."""
    content = io.BytesIO(busybox_image())
    library = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program = Path(sys.executable).resolve()
    with tarfile.open(fileobj=content, mode="a") as tar:
        _directory(tar, "usr")
        tar.add(program, "usr/bin/python3")
        tar.add(library, f"usr/lib/{version}", filter=_used)
        site = f"usr/lib/{version}/site-packages"
        found = [packages / name for name in _PACKAGES]
        found += [path for path in packages.glob("*.libs") if path.is_dir()]  # of the wheels among them
        for path in found:
            tar.add(path, f"{site}/{path.name}", filter=_source)
        for folder in ("linux/offerd_linux", "sdk/offerd", "executors/offerd_executors"):
            tar.add(HELPERS.parents[1] / folder, f"{site}/{Path(folder).name}", filter=_source)
        tar.add(HELPERS / "proc_executor.py", f"{site}/helpers/proc_executor.py")
        extensions = [*library.glob("lib-dynload/*.so"), *packages.glob("zmq/**/*.so")]
        for name in sorted(_libraries([program, *extensions])):
            tar.add(Path(name).resolve(), name.lstrip("/"))
    return content.getvalue()


def _libraries(files: list[Path]) -> set[str]:
    """The shared libraries that the loader finds for these files."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    words = (
        word for line in said.splitlines() if "=>" in line or "ld-linux" in line for word in line.split()
    )
    return {word for word in words if word.startswith("/") and Path(word).is_file()}


def _used(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(entry.name).parts[3:]
    return None if _UNUSED & set(parts) or parts[:1] == (_STATIC,) else entry


def _source(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def _directory(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    tar.addfile(entry)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)
