"""Hosts with their own network, host name and system directories, so that several can run on one kernel.

Each is a network namespace (`helpers.netns`) and, for as long as it is entered, a mount namespace in which what is written to
`_OWN` is seen by that host alone. There is no systemd. Other users of the host can read the Python of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from helpers.netns import Hosts

NOTHING: Mapping[str, str] = {}

_SETUP = """
set -e
place=$1
hostname "$2"
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 none "$place"
mkdir "$place/home"
for path in "$@"; do
    mkdir -p "$place/upper$path" "$place/work$path"
    mount -t overlay overlay -o "lowerdir=$path,upperdir=$place/upper$path,workdir=$place/work$path" "$path"
done
if [ -d /run/systemd ]; then mount -t tmpfs none /run/systemd; fi
echo ready
exec sleep infinity
"""
_OWN = ("/etc", "/var/lib", "/var/log", "/opt", "/usr/local/bin", "/usr/local/share")


def _closed_homes() -> list[Path]:
    """The directories above this Python and the sources that other users may not enter, such as /root."""
    above = {
        each for place in (sys.base_prefix, sys.prefix, __file__) for each in Path(place).resolve().parents
    }
    return sorted(each for each in above if not each.stat().st_mode & 0o001)


class Machine:
    """One of `hosts` (from 0), called `name`: a context manager. Needs root. Its processes end with its network."""

    def __init__(self, hosts: Hosts, number: int, name: str, place: Path) -> None:
        self.address = hosts.addresses[number]
        self.name = name
        self._inside = hosts.inside(number)
        self._place = place
        self._keeper: subprocess.Popen[str] | None = None
        self._begun: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Machine:
        self._place.mkdir(parents=True)
        self._keeper = subprocess.Popen(
            [
                *(*self._inside, "unshare", "-m", "-u", "sh", "-c", _SETUP, "sh"),
                *(str(self._place), self.name, *_OWN, *map(str, _closed_homes())),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "ready\n", "the host cannot be made"
        for home in _closed_homes():
            self.run("chmod", "a+x", str(home))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self._begun, *([self._keeper] if self._keeper is not None else [])]:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def words(self, *arguments: str) -> list[str]:
        """A command line that runs there."""
        assert self._keeper is not None
        return ["nsenter", "-t", str(self._keeper.pid), "-m", "-u", "-n", "--", *arguments]

    def environment(self) -> dict[str, str]:
        """The environment after a login."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OFFERD_", "XDG_"))}
        return {**kept, "HOME": str(self._place / "home"), "NO_COLOR": "1"}

    @property
    def pid(self) -> int:
        """The pid of a process that runs as long as the host exists."""
        assert self._keeper is not None
        return self._keeper.pid

    def run(
        self, *arguments: str, timeout_s: float = 60.0, variables: Mapping[str, str] = NOTHING
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.words(*arguments),
            env=self.environment() | dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd="/",
        )

    def offerd(
        self, *arguments: str, timeout_s: float = 60.0, variables: Mapping[str, str] = NOTHING
    ) -> subprocess.CompletedProcess[str]:
        """Run an `offerd` command to its end."""
        return self.run(
            sys.executable, "-m", "offerd_cli.main", *arguments, timeout_s=timeout_s, variables=variables
        )

    def begin(self, *arguments: str, variables: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """Start an `offerd` command without waiting."""
        process = subprocess.Popen(
            self.words(sys.executable, "-m", "offerd_cli.main", *arguments),
            env=self.environment() | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            start_new_session=True,
        )
        self._begun.append(process)
        return process

    def read(self, path: str) -> str:
        """The text of a file of the host."""
        done = self.run("cat", path)
        assert done.returncode == 0, done.stderr
        return done.stdout
