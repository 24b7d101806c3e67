"""A real Docker engine for a test run, in a temporary folder that is removed completely."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker

from helpers.docker_images import BUSYBOX, busybox_image
from helpers.docker_sweep import Folder, sweep_dead_owners
from offerd_linux import processes

START_S = 90.0
ANSWER_S = 2.0
SMALL = "offerd-test/busybox:1"
WITH_PYTHON = "offerd-test/python:1"


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

    def __init__(self, *, live_restore: bool = False) -> None:
        self._folder = Folder()
        self.root = root = self._folder.path
        self.live_restore = live_restore
        self.socket = root / "docker.sock"
        self.address = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = open(root / "dockerd.log", "ab")  # noqa: SIM115 - ours until `close`

    def start(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_S
        self._begin()
        while not self.answers():
            if self._process is not None and self._process.poll() is not None:
                # dockerd itself gives its containerd 15 s, which on a busy machine, or an emulated one, is little.
                assert "timeout waiting for containerd" in self.log(), self.log()
                self._begin()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def _begin(self) -> None:
        root = self.root
        pid_file = root / "exec/containerd/containerd.pid"
        # dockerd takes a zombie for a containerd that runs, and not every pid 1 of a test machine reaps them.
        if pid_file.exists() and not _is_running(int(pid_file.read_text())):
            pid_file.unlink()
        self._process = subprocess.Popen(
            [
                *("dockerd", "--data-root", str(root / "data"), "--exec-root", str(root / "exec")),
                *("-H", self.address, "--pidfile", str(root / "pid"), "--cgroup-parent", self._folder.cgroup),
                *("--iptables=false", "--ip6tables=false", "--bridge=none"),
                "--max-download-attempts=2",  # the second one after five seconds
                f"--live-restore={str(self.live_restore).lower()}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def answers(self) -> bool:
        """Whether it answers soon."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_S)
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
        """The pid of its containerd."""
        return int((self.root / "exec/containerd/containerd.pid").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send this signal, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def log(self) -> str:
        """The end of its log."""
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
        """The names of all its containers, in any state."""
        with self.api() as client:
            return [each["Names"][0].lstrip("/") for each in client.api.containers(all=True)]

    def close(self) -> None:
        """End its containers and itself, gracefully if it answers, and remove everything of it."""
        try:
            if self._process is not None:
                self._process.send_signal(signal.SIGCONT)  # a test may have stopped it
                if self.answers():
                    with self.api() as client:
                        for each in client.api.containers(all=True):
                            client.api.remove_container(each["Id"], force=True, v=True)
                    self.stop()
        finally:
            self._folder.close()
            if self._process is not None:
                self._process.wait()
            self._log.close()


def _is_running(pid: int) -> bool:
    process = processes.read(pid)
    return process is not None and not process.is_dead


@contextmanager
def engine(*, live_restore: bool = False) -> Iterator[DockerEngine]:
    """A running engine with the image `SMALL`."""
    sweep_dead_owners()
    made = DockerEngine(live_restore=live_restore)
    try:
        made.start()
        made.load(SMALL, busybox_image(), {"PATH": "/bin", "MADE_BY": "us"})
        yield made
    finally:
        made.close()
