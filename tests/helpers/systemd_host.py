"""A host with systemd, on which `deploy/provision` installs offerd: a guest that is thrown away."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from helpers.guest import ROOT
from helpers.kernel_bed import wait_until
from offerd_isolation.cgroups.module import SLICE

PREFIX = Path("/opt/offerd")
MASTER = "127.0.0.1:5060"
V2 = Path("/sys/fs/cgroup")
TASKS_UNIT = V2 / "system.slice/offerd-tasks.service"
SLAVE_UNIT = V2 / "system.slice/offerd-slave.service"
PATIENCE_S = 900.0
"""How long anything may take in an emulated guest on a busy host."""


def run(*words: str | Path) -> str:
    """Run a command, which must not fail; returns its output."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def provision() -> None:
    """Install a master and a slave with the scripts."""
    _install_offerd()
    run(ROOT / "deploy/provision/master.sh", "--insecure")
    run(ROOT / "deploy/provision/slave.sh", "--master", MASTER, "--insecure")


def provision_with_keys() -> None:
    """The same with keys, by the three lines of `deploy/README.md`."""
    _install_offerd()
    offerd = PREFIX / "venv/bin/offerd"
    run(ROOT / "deploy/provision/master.sh", "--no-start")
    run(offerd, "master", "init")
    word = run(offerd, "token", "new", "--slave")
    run(ROOT / "deploy/provision/slave.sh", "--no-start")
    run(offerd, "slave", "join", MASTER, word)


def _install_offerd() -> None:
    """What `pip install` would make at that place, which wants a network: this Python, its packages and this checkout.

    They are bound there, since the master's unit sees no homes. A `pip` that does nothing then finds all installed.
    """
    places = {"python": sys.base_prefix, "packages": sys.prefix, "checkout": str(ROOT)}
    for name, place in places.items():
        (PREFIX / name).mkdir(parents=True)
        run("mount", "--bind", place, PREFIX / name)
    for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        if sys.base_prefix != "/usr":
            Path("/usr/lib", library.name).symlink_to(PREFIX / "python/lib" / library.name)
    packages = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    components = project["tool"]["hatch"]["build"]["dev-mode-dirs"]
    venv = PREFIX / "venv"
    for folder in (venv / "bin", venv / packages):
        folder.mkdir(parents=True)
    python = venv / "bin/python"
    python.symlink_to(PREFIX / "python/bin" / Path(sys.executable).resolve().name)
    (venv / "pyvenv.cfg").write_text(f"home = {PREFIX}/python/bin\n")
    paths = [PREFIX / "packages" / packages, *(PREFIX / "checkout" / name for name in components)]
    (venv / packages / "offerd.pth").write_text("".join(f"{path}\n" for path in paths))
    main = f"#!{python}\nimport sys\nfrom offerd_cli.main import main\nsys.exit(main())\n"
    for name, text in (("offerd", main), ("pip", "#!/bin/sh\n")):
        program = venv / "bin" / name
        program.write_text(text)
        program.chmod(0o755)


def unbind() -> None:
    """Unmount what was bound there, so that a removal of offerd does not delete it."""
    for name in ("python", "packages", "checkout"):
        run("umount", PREFIX / name)


# -- units ----------------------------------------------------------------------------------------------------------------


def systemctl(*words: str) -> str:
    return run("systemctl", *words)


def prop(unit: str, name: str) -> str:
    return systemctl("show", "--value", "-p", name, unit)


def main_pid(unit: str) -> int:
    """The unit's main pid; 0 while there is none."""
    return int(prop(unit, "MainPID"))


def wait_new_slave(old_pid: int) -> None:
    """Wait until another slave process than this one has registered."""

    def is_registered() -> bool:
        pid = main_pid("offerd-slave")
        if pid in (0, old_pid):
            return False
        return "registered with master" in run("journalctl", "--no-pager", "-o", "cat", f"_PID={pid}")

    wait_until(is_registered, "a new slave is registered", PATIENCE_S)


# -- cgroups --------------------------------------------------------------------------------------------------------------


def leaf(divided: Path, name: str) -> Path:
    """The cgroup of a task below one that is divided; it may not exist any more."""
    found = list(divided.glob(f"{SLICE}/*/tasks/task-{name}"))
    return found[0] if found else divided / "gone" / name


def pids(cgroup: Path) -> list[int]:
    """The processes in a cgroup, none if it is gone."""
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def own_cgroup(pid: int) -> Path:
    return V2 / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


# -- a user of the host ---------------------------------------------------------------------------------------------------


class User:
    """A user without root, whose systemd runs even without a login."""

    def __init__(self, name: str) -> None:
        run("useradd", "--create-home", name)
        entry = pwd.getpwnam(name)
        self.uid, self.home = entry.pw_uid, Path(entry.pw_dir)
        self.manager = f"user@{self.uid}.service"
        self._enter = [
            "setpriv",
            f"--reuid={name}",
            f"--regid={name}",
            "--init-groups",
            "env",
            *("-u", "OFFERD_CONFIG", "-u", "XDG_CONFIG_HOME", "-u", "OFFERD_MASTER"),
            "-C",
            str(self.home),
            f"HOME={self.home}",
        ]
        self._enter += [
            f"XDG_RUNTIME_DIR=/run/user/{self.uid}",
            f"PATH={PREFIX}/venv/bin:{os.environ['PATH']}",
        ]
        run("loginctl", "enable-linger", name)
        self._wait_manager()

    def _wait_manager(self) -> None:
        wait_until(
            lambda: prop(self.manager, "ActiveState") == "active", f"{self.manager} is active", PATIENCE_S
        )

    def delegate(self, controllers: str) -> None:
        """Have the user's systemd delegate exactly these controllers, by the file that docs/isolation.md names."""
        path = Path("/etc/systemd/system/user@.service.d/delegate.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"[Service]\nDelegate=\nDelegate={controllers}\n")
        systemctl("daemon-reload")
        systemctl("restart", self.manager)
        self._wait_manager()

    def scope(self, name: str) -> Path:
        return V2 / f"user.slice/user-{self.uid}.slice/{self.manager}/app.slice/{name}.scope"

    def processes(self) -> list[int]:
        """All processes of the user below a scope."""
        scopes = V2 / f"user.slice/user-{self.uid}.slice/{self.manager}/app.slice"
        # A cgroup may go while it is looked at, which a walk takes for an empty one.
        return [
            pid for folder, _, _ in os.walk(scopes) for pid in pids(Path(folder)) if Path(folder) != scopes
        ]

    def in_scope(self, name: str, *words: str) -> list[str]:
        return ["systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes", "--unit", name, *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*self._enter, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of the user; the process is the command itself."""
        return subprocess.Popen([*self._enter, *words])
