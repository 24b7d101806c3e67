"""Which cgroup of this host the slave may divide, or one sentence that says why there is none.

It is the first of these:

1. The cgroup that `OFFERD_CGROUP` names. Another unit, with `Delegate=yes`, keeps it for the slave's tasks.
2. The slave's own cgroup, if it was delegated. A cgroup that is divided may hold no process, so the slave moves to a leaf
   of it, `offerd.daemon`, and containers are made beside that.
3. For root, the root cgroup of the host, or of the slave's cgroup namespace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from offerd_isolation.base import IsolationError
from offerd_isolation.cgroups import tree
from offerd_isolation.cgroups.controllers import Core, missing_files
from offerd_linux.cgroup_membership import V2, cgroup_paths

NEEDED = frozenset({"cpu", "memory", "pids"})
DAEMON_LEAF = "offerd.daemon"
ROOT_VARIABLE = "OFFERD_CGROUP"
UNIFIED = "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot"
DELEGATE = "systemd-run --user --scope -p Delegate=yes offerd slave"
GIVE = "have systemd delegate `cpu cpuset io memory pids` (Delegate= of the unit, of user@.service for a user's own)"
MOVE_ROUNDS = 100


class Unusable(Exception):
    """Limits cannot be set on this host; the text is one sentence that says why, and what to do."""


class Mounts(NamedTuple):
    """How cgroups are mounted: `mode` is v2, hybrid (v1 controllers beside a v2 tree), v1 or none."""

    mode: str
    v2_mount: Path | None = None


@dataclass(frozen=True, slots=True)
class Root:
    """A cgroup that the slave may divide. `has_daemon`: the slave runs in it, and must move to `offerd.daemon` first."""

    path: str
    controllers: frozenset[str]
    has_daemon: bool = False


def mounts(mountinfo: str) -> Mounts:
    """From the text of /proc/self/mountinfo. Controllers of v1 beside a v2 tree make it hybrid."""
    v1 = False
    v2: Path | None = None
    for line in mountinfo.splitlines():
        mount, _, rest = line.partition(" - ")
        kind, fields = rest.partition(" ")[0], mount.split(" ")
        if kind == "cgroup":
            v1 = True
        elif kind == "cgroup2" and len(fields) > 4 and v2 is None:
            v2 = Path(fields[4])
    mode = "hybrid" if v1 and v2 else "v2" if v2 else "v1" if v1 else "none"
    return Mounts(mode, v2)


def find_root(proc: Path = Path("/proc"), environment: Mapping[str, str] = os.environ) -> Root:
    """Where containers can be made. Changes nothing. Raises `Unusable`."""
    found = mounts((proc / "self/mountinfo").read_text())
    if found.mode == "none":
        raise Unusable("cgroups are not mounted; mount them with: mount -t cgroup2 none /sys/fs/cgroup")
    if found.mode != "v2" or found.v2_mount is None:
        what = "this host mounts the controllers as cgroup v1, and limits need cgroup v2"
        if found.mode == "hybrid":
            what = "this host is hybrid: its controllers are mounted as cgroup v1, and the v2 tree beside them has none"
        raise Unusable(f"{what}; {UNIFIED}")
    root = _candidate(found.v2_mount, proc, environment)
    missing = NEEDED - root.controllers
    if missing:
        raise Unusable(f"{root.path} has no controller {', '.join(sorted(missing))}; {GIVE}")
    for name in sorted(NEEDED):
        if (seen := _with_files(root.path, name)) and (files := missing_files(seen, frozenset({name}))):
            raise Unusable(f"{seen} has no {', '.join(files)}: this kernel cannot keep the limits of tasks")
    return root


def _with_files(path: str, name: str) -> str:
    """A cgroup that has the files of this controller, if the kernel supports them; empty if there is none yet. The host's root
    cgroup has no limits of its own; the cgroups directly below have them if the controller was enabled there."""
    if os.path.exists(f"{path}/cgroup.type"):
        return path
    try:
        is_on = name in Core(path).subtree_control
    except IsolationError:
        return ""
    return next(iter(tree.children(path)), "") if is_on else ""


def _candidate(mount: Path, proc: Path, environment: Mapping[str, str]) -> Root:
    if named := environment.get(ROOT_VARIABLE, ""):
        path = Path(named)
        if not (path / "cgroup.controllers").exists():
            raise Unusable(
                f"{ROOT_VARIABLE} names {named}, which is not a cgroup v2 directory; start the unit that makes it"
            )
        return _checked(path, has_daemon=False)
    own = mount / cgroup_paths(proc=proc).get(V2, "/").lstrip("/")
    if own.name == DAEMON_LEAF:
        return _checked(own.parent, has_daemon=False)
    if own != mount and (os.geteuid() != 0 or is_delegated(own)):
        return _checked(own, has_daemon=True)
    # The host's root cgroup may be divided though it holds processes. It is the only one without a cgroup.type.
    return _checked(mount, has_daemon=own == mount and (mount / "cgroup.type").exists())


def _checked(path: Path, *, has_daemon: bool) -> Root:
    files = (path, path / "cgroup.procs", path / "cgroup.subtree_control")
    if not all(os.access(each, os.W_OK) for each in files):
        raise Unusable(
            f"the slave may not divide the cgroup {path}; run it as root, or in a delegated one: {DELEGATE}"
        )
    try:
        return Root(str(path), Core(str(path)).controllers, has_daemon)
    except IsolationError as error:
        raise Unusable(f"{error}; limits need cgroup v2 with its controllers") from None


def cgroup_of(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """The directory of the v2 cgroup that a process is in; None if it is gone, or there is no v2."""
    mount = mounts((proc / "self/mountinfo").read_text()).v2_mount
    try:
        path = cgroup_paths(pid, proc).get(V2, "/")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return mount / path.lstrip("/") if mount is not None else None


def is_delegated(path: Path) -> bool:
    """Whether systemd has delegated it, as an extended attribute says since version 249."""
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            return os.getxattr(path, name) == b"1"
    return False


def take(root: Root, controllers: frozenset[str]) -> None:
    """Enable the controllers for cgroups below, after moving the daemon out if needed. Raises `IsolationError`."""
    if missing := controllers - root.controllers:
        raise IsolationError(
            f"{root.path} has no controller {', '.join(sorted(missing))}, which an option of this slave needs; {GIVE}"
        )
    if root.has_daemon:
        _move_all_to_leaf(root.path)
    tree.enable(root.path, controllers)


def _move_all_to_leaf(path: str) -> None:
    """Move every process in it to the leaf, also those that are forked meanwhile."""
    leaf = f"{path}/{DAEMON_LEAF}"
    tree.make(leaf)
    for _ in range(MOVE_ROUNDS):
        pids = Core(path).procs
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError):
                _move(leaf, pid)
    raise IsolationError(
        f"new processes keep appearing in {path}: nothing else may run in a cgroup that is divided"
    )


def _move(leaf: str, pid: int) -> None:
    try:
        fd = os.open(f"{leaf}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
    except ProcessLookupError:
        raise
    except OSError as error:
        raise IsolationError(f"cannot move process {pid} to {leaf}: {error.strerror}") from None
