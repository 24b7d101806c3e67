"""What this host can do for offerd. Each check reports what it found, and the command that adds what is missing.

The commands are for Debian. Nothing here changes anything.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from offerd.addresses import ANY, ANY_6
from offerd.errors import OfferdError
from offerd.wire.routes import bound
from offerd_isolation.cgroups.host import NEEDED, UNIFIED, Mounts, Root, Unusable, find_root, mounts

DOCKER_TIMEOUT_S = 3
NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
PORTS = {5060: "master", 5051: "slave's files"}
FILES_WANTED = 4096
OLDEST_ENGINE = (24, 0, 9)
"""BuildKit's CVE-2024-23651 to 23653."""
OLDEST_RUNC = (1, 2, 8)
"""CVE-2025-31133, 52565 and 52881 (masked paths, /dev/console, writes to /proc), and CVE-2024-21626 (descriptors left open)."""
OLDEST_KERNEL = (5, 3)
"""The kernel with pidfd_open: a pid may be used again, a pidfd always means the same process."""


class Finding(NamedTuple):
    """`found` describes what is there; `mend` is the command that adds or improves it (empty if there is nothing to do)."""

    check: str
    ok: bool
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """All checks, the most important first."""
    checks: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_kernel,
        check_user,
        check_cgroups,
        check_delegation,
        check_isolation,
        check_docker,
        check_zookeeper,
        check_java,
        check_mpich,
        check_vagrant,
        check_qemu,
        check_open_files,
    )
    return [check() for check in checks] + [check_port(port, whose) for port, whose in PORTS.items()]


def check_python() -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in ("pyzmq", "msgspec", "psutil"))
    return Finding("python", True, f"{platform.python_version()} at {sys.executable}; {packages}")


def check_kernel(release: str | None = None) -> Finding:
    release = release or platform.release()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    is_new = numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_KERNEL
    return Finding(
        "kernel",
        is_new,
        release,
        "" if is_new else "apt-get install linux-image-amd64  # 5.3 or newer, then reboot",
    )


def check_user() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", True, "root: tasks can run as any user")
    name = os.environ.get("USER", str(os.geteuid()))
    return Finding("user", False, f"{name}: all tasks run as {name}", "sudo offerd slave  # for --user")


def this_host() -> Mounts:
    return mounts(Path("/proc/self/mountinfo").read_text())


def check_cgroups(found: Mounts | None = None) -> Finding:
    found = found or this_host()
    if found.mode != "v2" or found.v2_mount is None:
        what = {
            "hybrid": "hybrid: the controllers are mounted as v1, so the v2 tree has none",
            "v1": "v1 only",
            "none": "not mounted",
        }[found.mode]
        return Finding("cgroup v2", False, what, UNIFIED)
    there = _words(found.v2_mount / "cgroup.controllers")
    missing = sorted(NEEDED - set(there))
    if missing:
        return Finding("cgroup v2", False, f"mounted, without {', '.join(missing)}", UNIFIED)
    return Finding("cgroup v2", True, f"controllers {' '.join(there)}")


def check_delegation(look: Callable[[], Root] = find_root) -> Finding:
    """Whether there is a cgroup in which this process may create others."""
    try:
        root = look()
    except Unusable as reason:
        what, _, mend = str(reason).rpartition("; ")
        return Finding("delegation", False, what, mend)
    return Finding("delegation", True, f"{root.path} is delegated to this user")


def check_isolation() -> Finding:
    from offerd_isolation.choose import choose

    with tempfile.TemporaryDirectory(prefix="offerd-doctor-") as work_dir:
        try:
            module, why = choose("auto", Path(work_dir))
        except OfferdError as error:
            return Finding("isolation", False, str(error), "offerd slave --isolation noop")
    return Finding("isolation", True, f"{module.name}: {why}")


def check_docker(host: str | None = None) -> Finding:
    """Asks the engine directly by HTTP: the Docker SDK leaves a socket open if no engine answers."""
    host = host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    scheme, _, place = host.partition("://")
    connection = http.client.HTTPConnection(
        place if scheme in ("tcp", "http") else "localhost", timeout=DOCKER_TIMEOUT_S
    )
    try:
        if scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(DOCKER_TIMEOUT_S)
            connection.sock.connect(place)
        connection.request("GET", "/info")
        about = json.loads(connection.getresponse().read())
        engine = str(about["ServerVersion"])
        connection.request("GET", "/version")
        parts = json.loads(connection.getresponse().read()).get("Components") or []
        runc = next((str(part["Version"]) for part in parts if part["Name"] == "runc"), "")
        cgroups = f"cgroup v{about['CgroupVersion']} by {about['CgroupDriver']}"
    except PermissionError:
        return Finding(
            "docker", False, f"this user may not use {place}", "usermod -aG docker $USER  # and log in again"
        )
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        if shutil.which("dockerd") or shutil.which("docker"):
            return Finding(
                "docker", False, f"installed, but no engine answers at {host}", "systemctl start docker"
            )
        return Finding("docker", False, "not installed", "apt-get install docker.io")
    finally:
        connection.close()
    live = "with" if about.get("LiveRestoreEnabled") else "without"
    found = f"engine {engine} at {host}, runc {runc or '?'}, {cgroups}, {live} live-restore"
    return Finding("docker", True, found, _escapes(engine, runc))


def _escapes(engine: str, runc: str) -> str:
    """The command to run if containers are known to escape from these versions; distributions may have fixed them under old
    numbers.
    """
    old = [
        f"{name} {there}, {'.'.join(map(str, oldest))} has"
        for name, there, oldest in (("engine", engine, OLDEST_ENGINE), ("runc", runc, OLDEST_RUNC))
        if _numbers(there) < oldest
    ]
    return (
        f"apt-get install --only-upgrade docker.io runc  # fixes known escapes: {'; '.join(old)}"
        if old
        else ""
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def check_zookeeper() -> Finding:
    places = ("/usr/share/java/zookeeper.jar", "/usr/share/zookeeper/bin/zkServer.sh")
    found = shutil.which("zkServer.sh") or next((place for place in places if Path(place).exists()), None)
    return _tool("zookeeper", found, "for more than one master", "apt-get install zookeeper")


def check_java() -> Finding:
    return _tool("java", shutil.which("java"), "for ZooKeeper", "apt-get install default-jre-headless")


def check_mpich() -> Finding:
    return _tool("mpich", shutil.which("mpiexec.hydra"), "for `offerd mpi`", "apt-get install mpich")


def check_vagrant() -> Finding:
    return _tool(
        "vagrant", shutil.which("vagrant"), "for the lab of virtual machines", "apt-get install vagrant"
    )


def check_qemu() -> Finding:
    found = shutil.which(f"qemu-system-{platform.machine()}")
    finding = _tool("qemu", found, "for tests on another kernel", "apt-get install qemu-system-x86")
    if found and not os.access("/dev/kvm", os.W_OK):
        return finding._replace(found=f"{finding.found}; no /dev/kvm: slow")
    return finding


def check_open_files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= FILES_WANTED:
        return Finding(
            "open files",
            True,
            f"{soft} now, up to {'any number' if hard == resource.RLIM_INFINITY else hard}",
        )
    return Finding(
        "open files", False, f"{hard} at most: few tasks at once", f"ulimit -Hn {FILES_WANTED}  # as root"
    )


def check_port(port: int, whose: str) -> Finding:
    name = f"port {port}"
    for ip in (ANY_6, ANY):
        # A port that is in use at one address counts as in use.
        try:
            bound(ip, port).close()
        except OSError as error:
            if ip == ANY_6 and error.errno in NO_IPV6:
                continue
            return Finding(
                name,
                False,
                f"{whose}: {error.strerror}",
                f"ss -ltnp 'sport = :{port}'  # shows which process has it",
            )
        break
    return Finding(name, True, f"{whose}: free")


def _tool(name: str, found: str | None, what_for: str, mend: str) -> Finding:
    if found:
        return Finding(name, True, found)
    return Finding(name, False, f"not installed ({what_for})", mend)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
