"""Daemons that go on after the command that started them: systemd units if these are installed, otherwise processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from offerd.credentials.trusted_files import replace_file
from offerd.errors import OfferdError

SYSTEMD_RUNS = Path("/run/systemd/system")
UNIT_DIRECTORIES = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
OPTIONS_DIRECTORY = Path("/etc/default")
LOOK_AGAIN_S = 0.05


def state_directory() -> Path:
    """Where daemons of this account keep their state, and their logs if they run without systemd."""
    if os.geteuid() == 0:
        return Path("/var/lib/offerd")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "offerd"


class Service:
    """The master or slave of this host with this configuration file."""

    def __init__(self, kind: str, config: Path) -> None:
        self._kind = kind
        self._config = config
        self._unit = f"offerd-{kind}"
        self.is_unit = (
            os.geteuid() == 0
            and SYSTEMD_RUNS.is_dir()
            and any((directory / f"{self._unit}.service").exists() for directory in UNIT_DIRECTORIES)
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.log = state_directory() / f"{kind}.log"
        self.pid_file = state_directory() / f"{kind}.pid"

    @property
    def user(self) -> str:
        """The user as which the daemon will run, if that is not the user who starts it."""
        return "offerd" if self.is_unit and self._kind == "master" else ""

    def start(self) -> None:
        """Raises `OfferdError` with one line."""
        try:
            if self.is_unit:
                self._start_unit()
            else:
                self._start_process()
        except OSError as error:
            raise OfferdError(
                f"cannot start the {self._kind}: {error.filename or ''}: {error.strerror}"
            ) from None

    def wait_for(self, is_ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait until `is_ready`. Raises `OfferdError` with the daemon's last log line if it ends, or if this takes too long."""
        give_up_at = time.monotonic() + timeout_s
        while not is_ready():
            if self._has_ended():
                raise OfferdError(f"the {self._kind} has ended: {self.last_line()}; {self.hint}")
            if time.monotonic() > give_up_at:
                raise OfferdError(
                    f"the {self._kind} {what} within {timeout_s:g} s: {self.last_line()}; {self.hint}"
                )
            time.sleep(LOOK_AGAIN_S)

    @property
    def hint(self) -> str:
        """Where to find the log."""
        if self.is_unit:
            return f"see: journalctl -u {self._unit}"
        return f"its log is {self.log}"

    @property
    def ending(self) -> str:
        """The command that stops the daemon."""
        return f"systemctl disable --now {self._unit}" if self.is_unit else f"kill $(cat {self.pid_file})"

    def last_line(self) -> str:
        """The last line of the daemon's log."""
        if self.is_unit:
            words = ["journalctl", "-u", self._unit, "-n", "1", "-o", "cat", "--no-pager"]
            text = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30).stdout
        else:
            with open(self.log, errors="replace") as file:
                text = file.read()
        lines = text.strip().splitlines()
        return lines[-1].removeprefix("offerd: ") if lines else "its log is empty"

    def _has_ended(self) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        shown = subprocess.run(
            ["systemctl", "show", "-p", "NRestarts", "-p", "ActiveState", self._unit],
            capture_output=True, text=True, check=False, timeout=30,
        ).stdout  # fmt: skip
        return "ActiveState=failed" in shown or ("NRestarts=" in shown and "NRestarts=0" not in shown)

    def _start_unit(self) -> None:
        words = f"--config {self._config}"
        text = f'# Written by `offerd {"master init" if self._kind == "master" else "slave join"}`.\nOFFERD_OPTIONS="{words}"\n'
        replace_file(OPTIONS_DIRECTORY / self._unit, text, 0o644)
        for order in (["daemon-reload"], ["enable", "--quiet", self._unit], ["restart", self._unit]):
            done = subprocess.run(
                ["systemctl", *order], capture_output=True, text=True, check=False, timeout=120
            )
            if done.returncode:
                raise OfferdError(
                    f"systemctl {' '.join(order)}: {done.stderr.strip() or f'status {done.returncode}'}"
                )

    def _start_process(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self.log, flags, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "offerd_cli.main", self._kind, "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its options are in its file, whatever the environment of this shell says.
                env={name: value for name, value in os.environ.items() if not name.startswith("OFFERD_")},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(log)
        replace_file(self.pid_file, f"{self._process.pid}\n", 0o644)
