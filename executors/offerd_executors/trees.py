"""Process trees of an executor's tasks: finding out when one has ended, removing what it leaves behind, and ending it as a
whole.

The executor is a *subreaper*: an orphan below it becomes its child. So the tree of a root consists of the root with its
descendants, and of *orphans*: children of the executor that are not roots. An orphan belongs to the tree whose root has the
same session, unless it called setsid; then to the tree whose mark is in the environment that the orphan was started with.
Without either, it may belong to any tree that lived when it appeared, and ends with the last of these.

Signals are sent to children of the executor that it has not reaped, whose pids cannot be reused, and to deeper descendants
through pidfds, once each is verified to be in the tree.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from offerd.drivers.executor_loop import Timer
from offerd.executor import ExecutorDriver
from offerd.ids import TaskID
from offerd_executors.spawner_client import SpawnerClient
from offerd_linux import prctl, processes
from offerd_linux.memory import peak_since_exec_bytes
from offerd_linux.processes import Process

KILL_AGAIN_S = 0.05
"""A tree that is being killed is checked this often; each death of a member causes an earlier check."""
EXEC_LOOKS = 100
"""How often to look at a process in the middle of an exec before giving up on its mark."""


class Usage(NamedTuple):
    """Resources that a root, and the descendants that it waited for, have used."""

    cpu_s: float
    peak_mem_bytes: int
    """0 if it was less than the executor's own peak, which a child inherits through exec."""


class Tree:
    """One root process and its descendants."""

    __slots__ = ("is_killed", "key", "mark", "orphans", "pid", "term_until", "usage", "wait_status")

    def __init__(self, key: Hashable, pid: int, mark: bytes) -> None:
        self.key = key
        self.pid = pid
        self.mark = mark
        self.wait_status: int | None = None
        """As waitpid returns it; None while the root runs."""
        self.usage = Usage(0.0, 0)
        self.orphans: set[int] = set()
        self.term_until: Timer | None = None
        """Set after SIGTERM, until SIGKILL is sent."""
        self.is_killed = False
        """Every member must get SIGKILL, whenever it appears."""


class ProcessTrees:
    """All trees of one executor. `on_gone(tree)` is called once for each, when none of its processes is left."""

    def __init__(
        self,
        driver: ExecutorDriver,
        variable: str,
        on_gone: Callable[[Tree], None],
        spawner: SpawnerClient | None = None,
    ) -> None:
        """`variable`: the environment variable that holds the mark of a tree's processes. `spawner`: starts the roots, in
        cgroups of their own; a tree's key is then its task's id. Call `start()` before `add`.
        """
        self._spawner = spawner
        self._driver = driver
        self._prefix = variable.encode() + b"="
        self._on_gone = on_gone
        self._roots: dict[int, Tree] = {}
        self._by_mark: dict[bytes, Tree] = {}
        self._ended: dict[int, Tree] = {}
        """Trees whose root has been reaped, by the root's pid, which may still be the number of a session."""
        self._orphans: dict[int, Tree | None] = {}
        self._candidates: dict[int, set[Tree]] = {}
        """For each orphan of unknown origin, the trees that it may belong to."""
        self._known: dict[tuple[int, int], Tree] = {}
        """Descendants seen before a kill, by pid and start time: once orphaned, some could not be assigned any more."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._again: Timer | None = None

    def start(self) -> None:
        """Become a subreaper and begin to reap."""
        peak_bytes = _peak_bytes()
        self._peak_before_exec_bytes = peak_bytes if peak_bytes > peak_since_exec_bytes() else 0
        prctl.become_subreaper()
        # The handler does nothing: the byte that Python writes to the wake-up descriptor wakes the loop.
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._driver.add_reader(self._wake_read, self._on_sigchld)

    def close(self) -> None:
        """Stop reaping."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._driver.remove_reader(self._wake_read)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def __len__(self) -> int:
        return len(self._roots) + len(self._ended)

    def add(self, key: Hashable, pid: int, mark: str) -> Tree:
        """Add a child that was started in this turn of the loop. `mark` is its value of the variable."""
        tree = Tree(key, pid, self._prefix + os.fsencode(mark))
        self._roots[pid] = tree
        self._by_mark[tree.mark] = tree
        return tree

    def terminate(self, tree: Tree, grace_s: float) -> None:
        """Send SIGTERM to every member now, and SIGKILL to those that are left after `grace_s`. A later call can only shorten
        this time.
        """
        if tree.is_killed or (tree.wait_status is not None and not tree.orphans):
            return
        if tree.term_until is None:
            self._signal_all(tree, signal.SIGTERM)
        elif tree.term_until.due <= time.monotonic() + grace_s:
            return
        else:
            tree.term_until.cancel()
        tree.term_until = self._driver.call_later(grace_s, lambda: self.kill(tree))

    def kill(self, tree: Tree) -> None:
        """Send SIGKILL to every member, until none is left."""
        if tree.term_until is not None:
            tree.term_until.cancel()
            tree.term_until = None
        tree.is_killed = True
        self._kill_members(tree)
        self._kill_again()

    # -- Deaths
    # -------------------------------------------------------------------------------------------------

    def _on_sigchld(self) -> None:
        try:
            while len(os.read(self._wake_read, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        self.reap()

    def reap(self) -> None:
        """Reap children that have ended, assign new orphans to trees, and report trees without processes."""
        own_peak_bytes = -1
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            tree = self._roots.pop(pid, None)
            if tree is None:
                self._forget_orphan(pid)
                continue
            if own_peak_bytes < 0:
                own_peak_bytes = _peak_bytes()
                if own_peak_bytes <= self._peak_before_exec_bytes:
                    own_peak_bytes = peak_since_exec_bytes()
            tree.wait_status = status
            peak_bytes = used.ru_maxrss << 10
            tree.usage = Usage(
                used.ru_utime + used.ru_stime, peak_bytes if peak_bytes > own_peak_bytes else 0
            )
            self._ended[pid] = tree
        # A process's children become ours before its own death is reported: so this list has all orphans of the children
        # reaped above.
        helper = 0 if self._spawner is None else self._spawner.pid
        for pid in processes.own_children():
            if pid not in self._roots and pid not in self._orphans and pid != helper:
                self._adopt(pid)
        if self._candidates:
            self._settle_candidates()
        for tree in [*self._ended.values()]:
            if not tree.orphans:
                self._remove(tree)
            elif tree.term_until is None:
                # The command has ended, and nothing asked these to stay. After SIGTERM they have time until the grace ends.
                tree.is_killed = True
                self._kill_members(tree)
                self._kill_again()
        for pid, owner in self._orphans.items():
            if owner is None and pid not in self._candidates:
                _signal(pid, signal.SIGKILL)

    def _remove(self, tree: Tree) -> None:
        del self._ended[tree.pid]
        del self._by_mark[tree.mark]
        if self._known:
            self._known = {key: other for key, other in self._known.items() if other is not tree}
        if tree.term_until is not None:
            tree.term_until.cancel()
        self._on_gone(tree)

    def _kill_again(self) -> None:
        """Check again soon: new members appear without notice, such as a fork by a dying process, or an orphan of a member that
        was killed deeper down.
        """
        if self._again is None:
            self._again = self._driver.call_later(KILL_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        for tree in [*self._roots.values()]:
            if tree.is_killed:
                self._kill_members(tree)
                self._kill_again()
        self.reap()

    # -- Orphans
    # -------------------------------------------------------------------------------------------------

    def _adopt(self, pid: int) -> None:
        """Assign a child that is not a root to its tree. It is our child and not reaped, so its pid cannot be reused."""
        tree, is_certain = self._tree_of(pid)
        if not is_certain and len(self._by_mark) == 1:
            (tree,) = self._by_mark.values()
        elif not is_certain and self._by_mark:
            self._candidates[pid] = set(self._by_mark.values())
        self._assign(pid, tree)

    def _tree_of(self, pid: int) -> tuple[Tree | None, bool]:
        """The tree that an orphan comes from, and whether that is certain; `(None, True)` if that tree is gone."""
        found = processes.read(pid)
        if found is None or found.is_dead:
            return None, True
        tree = (
            self._known.pop((pid, found.start_ticks), None)
            or self._roots.get(found.session)
            or self._ended.get(found.session)
        )
        if tree is not None:
            return tree, True
        mark = self._mark_of(pid)
        return self._by_mark.get(mark), bool(mark)

    def _assign(self, pid: int, tree: Tree | None) -> None:
        self._orphans[pid] = tree
        if tree is not None:
            tree.orphans.add(pid)

    def _note_descendants(self, tree: Tree) -> None:
        for each in processes.descendants(_children(tree)):
            self._known[each.pid, each.start_ticks] = tree

    def _mark_of(self, pid: int) -> bytes:
        """The line with the mark in the environment that the process was started with; empty if there is none."""
        for _ in range(EXEC_LOOKS):
            environ = processes.environment(pid)
            # In the middle of an exec a process has neither environment nor arguments; after its environment was cleared it
            # still has arguments.
            if environ or processes.command_line(pid):
                break
            os.sched_yield()
        return next((line for line in environ.split(b"\0") if line.startswith(self._prefix)), b"")

    def _settle_candidates(self) -> None:
        """Assign orphans of unknown origin if it is known by now. Otherwise they belong to those trees that still live."""
        for pid, trees in [*self._candidates.items()]:
            tree, is_certain = self._tree_of(pid)
            trees_left = {other for other in trees if other.wait_status is None}
            if not is_certain:
                if trees_left:
                    self._candidates[pid] = trees_left
                    continue
                tree = next((other for other in trees if other.pid in self._ended), None)
            del self._candidates[pid]
            self._assign(pid, tree)
            if tree is not None and tree.term_until is not None:
                _signal(pid, signal.SIGTERM)  # it was not known to be in the tree when that got SIGTERM
                _signal(pid, signal.SIGCONT)

    def _forget_orphan(self, pid: int) -> None:
        tree = self._orphans.pop(pid, None)
        self._candidates.pop(pid, None)
        if tree is not None:
            tree.orphans.discard(pid)

    # -- Signals
    # ------------------------------------------------------------------------------------------------

    def _kill_members(self, tree: Tree) -> None:
        """Send SIGKILL to all members at once if the spawner can. Otherwise to those that are our children: their children then
        become ours, and are next.
        """
        if self._spawner is not None and self._spawner.kill(TaskID(str(tree.key))):
            return
        self._note_descendants(tree)
        for pid in _children(tree):
            _signal_group(pid, signal.SIGKILL)
            _signal(pid, signal.SIGKILL)

    def _signal_all(self, tree: Tree, number: signal.Signals) -> None:
        """Send a signal to every member that there is now, and SIGCONT, as a stopped process would not handle the signal."""
        self.reap()  # new orphans are members, too
        children = _children(tree)
        groups = set(children)
        # Before any signal: when a member dies, its children become ours, and are not found below it any more.
        deeper = self._outside(tree, groups)
        for pid in children:
            _signal_group(pid, number)
        for pid in children:
            if os.getpgid(pid) not in groups:
                _signal(pid, number)
                _signal(pid, signal.SIGCONT)
        for each in deeper:
            with contextlib.suppress(PermissionError):  # a set-uid program
                processes.kill(each.pid, each.start_ticks, number, signal.SIGCONT)
        for pid in children:
            _signal_group(pid, signal.SIGCONT)

    def _members(self, tree: Tree) -> list[int] | None:
        """The processes in the tree's cgroup, from the kernel; None if it has no cgroup."""
        return None if self._spawner is None else self._spawner.members(TaskID(str(tree.key)))

    def _outside(self, tree: Tree, groups: set[int]) -> list[Process]:
        """Members that are not our children and in none of these process groups."""
        members = self._members(tree)
        if members is None:
            found = processes.descendants(_children(tree))
        else:
            # Most members are in the root's group, and asking for a group takes a hundredth of the time of reading /proc.
            strangers = [pid for pid in members if pid not in groups and _group(pid) not in groups]
            seen = [process for pid in strangers if (process := processes.read(pid)) is not None]
            # If a pid is still in the cgroup, it is either the process whose start time was read, or another member.
            still = set(self._members(tree) or ()) if seen else set()
            found = [process for process in seen if process.pid in still]
        return [process for process in found if process.group not in groups]


def _children(tree: Tree) -> list[int]:
    """The members that are our children and not reaped."""
    return [tree.pid, *tree.orphans] if tree.wait_status is None else [*tree.orphans]


def _group(pid: int) -> int:
    """The process group; 0 if the process is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _ignore(number: int, frame: object) -> None:
    """Python writes its wake-up byte only for signals that have a handler."""


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal a child that is not reaped: dead or alive, its pid cannot be reused."""
    with contextlib.suppress(PermissionError):  # a set-uid program: the slave ends it with the container
        os.kill(pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group that this unreaped child leads, if it leads one."""
    # ProcessLookupError: it leads none, as a group of its number is its own or does not exist. PermissionError: set-uid
    # program.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _peak_bytes() -> int:
    """Peak resident memory as getrusage counts it, which includes the time before an exec."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
