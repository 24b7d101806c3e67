"""A real Docker engine of a test run's own, with temporary roots, and images made on this machine: no registry is asked."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from offerd_isolation import process_table

BUSYBOX = Path("/bin/busybox")
START_S = 30.0
SMALL = "offerd-test/busybox:1"
WITH_PYTHON = "offerd-test/python:1"
HELPERS = Path(__file__).parent
_UNUSED = {"test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "site-packages", "__pycache__"}
_STATIC = f"config-{sys.version_info[0]}.{sys.version_info[1]}-x86_64-linux-gnu"
_PACKAGES = ("msgspec", "zmq", "cloudpickle", "msgpack")


def missing() -> str:
    """Why no engine can be started here; empty if it can."""
    if os.geteuid() != 0:
        return "dockerd needs uid 0"
    for program in ("dockerd", "containerd"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: docker.io)"
    return "" if BUSYBOX.exists() else "busybox is not installed (Debian: busybox-static)"


class DockerEngine:
    """dockerd, and the containerd that it starts. Its containers are in a cgroup of their own and have no network."""

    def __init__(self, root: Path, *, live_restore: bool = False) -> None:
        self.root = root
        self.live_restore = live_restore
        self.socket = root / "docker.sock"
        self.address = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = open(root / "dockerd.log", "ab")  # noqa: SIM115 - ours until `close`

    def start(self) -> None:
        """Until it answers."""
        root = self.root
        pid_file = root / "exec/containerd/containerd.pid"
        # dockerd takes a zombie for a containerd that runs, and not every pid 1 of a test machine buries them.
        if pid_file.exists() and not _is_running(int(pid_file.read_text())):
            pid_file.unlink()
        self._process = subprocess.Popen(
            [
                *("dockerd", "--data-root", str(root / "data"), "--exec-root", str(root / "exec")),
                *("-H", self.address, "--pidfile", str(root / "pid")),
                *("--iptables=false", "--ip6tables=false", "--bridge=none"),
                f"--live-restore={str(self.live_restore).lower()}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while not self.answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it does, now."""
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in client.recv(64)
            except OSError:
                return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def containerd_pid(self) -> int:
        """Of the containerd that belongs to it."""
        return int((self.root / "exec/containerd/containerd.pid").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send this, and wait until it has gone."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def log(self) -> str:
        """The end of what it says."""
        return (self.root / "dockerd.log").read_text(errors="replace")[-3000:]

    @contextmanager
    def api(self) -> Iterator[Any]:
        """The SDK's client."""
        client = docker.DockerClient(base_url=self.address, timeout=30)
        try:
            yield client
        finally:
            client.close()

    def load(self, name: str, content: bytes, environment: dict[str, str]) -> None:
        """Import a root file system under a name."""
        repository, _, tag = name.partition(":")
        changes = [f"ENV {key}={value}" for key, value in environment.items()]
        with self.api() as client:
            client.api.import_image_from_data(content, repository=repository, tag=tag, changes=changes)

    def containers(self) -> list[str]:
        """Names of all there are, in any state."""
        with self.api() as client:
            return [each["Names"][0].lstrip("/") for each in client.api.containers(all=True)]

    def close(self) -> None:
        """End everything it has, and itself."""
        if self._process is not None and not self.answers():
            self.stop(signal.SIGKILL)
        if self._process is not None:
            with self.api() as client:
                for each in client.api.containers(all=True):
                    client.api.remove_container(each["Id"], force=True, v=True)
            containerd = self.containerd_pid()
            self.stop()
            _end(containerd)
        self._log.close()


def _is_running(pid: int) -> bool:
    process = process_table.read(pid)
    return process is not None and not process.is_dead


def _end(pid: int) -> None:
    """A containerd that outlived its killed dockerd."""
    try:
        if b"containerd" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        pass


@contextmanager
def engine(*, live_restore: bool = False) -> Iterator[DockerEngine]:
    """One that runs and has the image `SMALL`; its socket's path is short enough for the kernel."""
    with tempfile.TemporaryDirectory(prefix="offerd-dockerd-", ignore_cleanup_errors=True) as name:
        made = DockerEngine(Path(name), live_restore=live_restore)
        try:
            made.start()
            made.load(SMALL, busybox_image(), {"PATH": "/bin", "MADE_BY": "us"})
            yield made
        finally:
            made.close()


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
    """This Python with what its executors import, and busybox: as an image of somebody who builds on offerd."""
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
        for folder in ("sdk/offerd", "executors/offerd_executors"):
            tar.add(HELPERS.parents[1] / folder, f"{site}/{Path(folder).name}", filter=_source)
        tar.add(HELPERS / "proc_executor.py", f"{site}/helpers/proc_executor.py")
        extensions = [*library.glob("lib-dynload/*.so"), *packages.glob("zmq/**/*.so")]
        for name in sorted(_libraries([program, *extensions])):
            tar.add(Path(name).resolve(), name.lstrip("/"))
    return content.getvalue()


def _libraries(files: list[Path]) -> set[str]:
    """What the loader finds for these."""
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
