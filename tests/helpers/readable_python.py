"""An executor for tasks of other users, on a host whose Python only root may read (a pyenv in root's home).

What it needs is copied to a directory that all may read, and Debian's own Python runs it, if that is of the same version.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import zmq

import offerd
import offerd_executors
import offerd_linux
from offerd.ids import ExecutorID
from offerd.messages import CommandInfo, ExecutorInfo

SYSTEMS_PYTHON = "/usr/bin/python3"


def is_for_others(path: Path) -> bool:
    """Whether every account of this host may read the files there."""
    return all(directory.stat().st_mode & 0o5 == 0o5 for directory in (path, *path.parents))


def command_executor(directory: Path) -> ExecutorInfo | None:
    """The executor of commands, with its packages in this directory, which is opened to all. None: no such Python is here."""
    if is_for_others(Path(sys.base_prefix)) and is_for_others(Path(offerd.__file__).parent):
        return ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
    version = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([SYSTEMS_PYTHON, "-c", version], capture_output=True, text=True, check=False)
    if done.stdout.split() != [str(number) for number in sys.version_info[:2]]:
        return None
    directory.chmod(0o755)
    for module in (msgspec, zmq, offerd, offerd_linux, offerd_executors):
        package = Path(str(module.__file__)).parent
        shutil.copytree(package, directory / package.name)
        libraries = package.with_name("pyzmq.libs")  # beside zmq, in a wheel
        if package.name == "zmq" and libraries.exists():
            shutil.copytree(libraries, directory / libraries.name)
    program = [SYSTEMS_PYTHON, "-m", "offerd_executors.command"]
    command = CommandInfo(argv=program, environment={"PYTHONPATH": str(directory)})
    return ExecutorInfo(ExecutorID("command"), command=command)
