"""A shell that runs the commands of a document unchanged, on this host or on a `Machine`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from helpers.cli import wait_until
from helpers.documents import commands
from helpers.machines import NOTHING, Machine

How = Callable[[str], object] | str
"""A function that handles a command instead of running it; or another shell to run it in."""
LIMIT_S = 120.0


class Shell:
    """A user's shell in a directory, with this `offerd` on the path. The commands that it has started end with it."""

    def __init__(
        self,
        directory: Path,
        machine: Machine | None = None,
        variables: Mapping[str, str] = NOTHING,
        *,
        user: str = "",
    ) -> None:
        """`user`: a user of the machine whose home the directory is."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OFFERD_MASTER", "PYTHON"))
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        base = machine.environment() if machine is not None else kept
        self.environment = base | {"PATH": path, "NO_COLOR": "1"} | dict(variables)
        self.directory = directory
        self._machine = machine
        self._become: list[str] = []
        if user:
            self._become = [
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--clear-groups",
                "--inh-caps=-all",
            ]
            self.environment["HOME"] = str(directory)
        self._begun: list[subprocess.Popen[str]] = []
        self._before = ""

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._begun):
            self.interrupt(process)

    def _words(self, command: str) -> list[str]:
        words = [*self._become, "bash", "-c", f"cd {self.directory} && {self._before}{command}"]
        return self._machine.words(*words) if self._machine is not None else words

    def remember(self, command: str) -> None:
        """Run this before every later command, as for `export`."""
        self._before += f"{command}; "

    def type(self, command: str, *, status: int = 0) -> str:
        """Run a command, which must end with this exit status; returns its output."""
        done = subprocess.run(
            self._words(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.environment,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == status, (
            f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done.stdout

    def ends_with(self, command: str) -> int:
        """Run a command; returns its exit status."""
        words = self._words(command)
        return subprocess.run(words, capture_output=True, env=self.environment, timeout=LIMIT_S).returncode

    def begin(self, command: str, until: Callable[[], object] | None = None) -> subprocess.Popen[str]:
        """Start a command, and wait until this condition holds."""
        process = subprocess.Popen(
            self._words(f"exec {command}"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=self.environment,
        )  # fmt: skip
        self._begun.append(process)
        if until is not None:

            def has_come() -> object:
                assert process.poll() is None, f"{command} has ended: {process.communicate()[0]}"
                return until()

            wait_until(has_come, f"what {command} begins", LIMIT_S)
        return process

    def has_slaves(self, number: int) -> Callable[[], bool]:
        """A condition: the cluster that commands use here has this many slaves."""

        def has() -> bool:
            words = self._words("offerd slaves --json")
            done = subprocess.run(
                words, capture_output=True, text=True, env=self.environment, timeout=LIMIT_S
            )
            return done.returncode == 0 and done.stdout.count('"slave_id"') == number

        return has

    def interrupt(self, process: subprocess.Popen[str]) -> str:
        """Interrupt a command as by Ctrl-C; returns its output."""
        if process in self._begun:
            self._begun.remove(process)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=LIMIT_S)[0]
        finally:
            process.kill()

    def follow(self, document: str, special: Mapping[str, How]) -> None:
        """Run every command of a document, in order; those that begin like a special one are handled as that says."""
        unused = set(special)
        for command in commands(document):
            known = next((beginning for beginning in special if command.startswith(beginning)), None)
            if known is None:
                self.type(command)
                continue
            unused.discard(known)
            how = special[known]
            if not isinstance(how, str):
                how(command)
        assert unused == set(), f"{document} shows no more {unused}"
