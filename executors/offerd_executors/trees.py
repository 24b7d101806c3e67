"""Process trees of an executor's tasks: when their roots end, what they leave behind, and ending them as a
whole.

The executor is a *subreaper*: whatever loses its parent below it becomes its child. So the tree of a root is
the root with its descendants, and the *strays*: children of the executor that are no roots. A stray is told
to its tree by its session (that of the root, unless it called setsid), else by a marker in the environment it
was started with, else it may belong to any tree that lived when it appeared, and ends with the last of them.

Signals go to unreaped children of the executor, whose pids cannot pass to other processes, and, for what lies
deeper, through pidfds whose owner is checked to be in the tree.
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
"""A tree under SIGKILL is looked at again this often; the deaths of its members do so earlier."""
EXEC_LOOKS = 100
"""How often one looks at a process in the middle of an exec before going on without knowing whose it is."""


class Usage(NamedTuple):
    """What a root and the descendants it waited for have used."""

    cpu_s: float
    peak_mem_bytes: int
    """0 if it was less than the executor's own peak, which a child inherits through exec."""


class Tree:
    """One root process and what descends from it."""

    __slots__ = ("is_killed", "key", "marker", "pid", "strays", "term_until", "usage", "wait_status")

    def __init__(self, key: Hashable, pid: int, marker: bytes) -> None:
        self.key = key
        self.pid = pid
        self.marker = marker
        self.wait_status: int | None = None
        """As waitpid tells it; None while the root runs."""
        self.usage = Usage(0.0, 0)
        self.strays: set[int] = set()
        self.term_until: Timer | None = None
        """Set while the tree has been asked to end and SIGKILL has not come yet."""
        self.is_killed = False
        """SIGKILL is due for every member, whenever it appears."""


class Forest:
    """All trees of one executor. `on_gone(tree)` is called once for each, when nothing of it is left."""

    def __init__(
        self,
        driver: ExecutorDriver,
        variable: str,
        on_gone: Callable[[Tree], None],
        spawner: SpawnerClient | None = None,
    ) -> None:
        """`variable`: the environment variable whose value marks a tree's processes. `spawner`: what has started the roots, in
        cgroups of their own; a tree's key is then its task's id. Call `start()` before `add`.
        """
        self._spawner = spawner
        self._driver = driver
        self._prefix = variable.encode() + b"="
        self._on_gone = on_gone
        self._roots: dict[int, Tree] = {}
        self._by_marker: dict[bytes, Tree] = {}
        self._ended: dict[int, Tree] = {}
        """Trees whose root has been reaped, by its pid, which may be a session's number still."""
        self._strays: dict[int, Tree | None] = {}
        self._candidates: dict[int, set[Tree]] = {}
        """For strays of unknown origin."""
        self._known: dict[tuple[int, int], Tree] = {}
        """Descendants seen before a kill, by pid and start time: when orphaned some could not be told any
        more.
        """
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._again: Timer | None = None

    def start(self) -> None:
        """Become a subreaper and begin to reap."""
        peak_bytes = _peak_bytes()
        self._peak_before_exec_bytes = peak_bytes if peak_bytes > peak_since_exec_bytes() else 0
        prctl.become_subreaper()
        # The handler does nothing: the byte that Python writes for it wakes the loop.
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

    def add(self, key: Hashable, pid: int, marker: str) -> Tree:
        """A child just started; no turn of the loop may lie between. `marker` is its value of the variable."""
        tree = Tree(key, pid, self._prefix + os.fsencode(marker))
        self._roots[pid] = tree
        self._by_marker[tree.marker] = tree
        return tree

    def terminate(self, tree: Tree, grace_s: float) -> None:
        """SIGTERM to every member now, SIGKILL to what is left of it in `grace_s`; a later call can only be
        sooner.
        """
        if tree.is_killed or (tree.wait_status is not None and not tree.strays):
            return
        if tree.term_until is None:
            self._signal_all(tree, signal.SIGTERM)
        elif tree.term_until.due <= time.monotonic() + grace_s:
            return
        else:
            tree.term_until.cancel()
        tree.term_until = self._driver.call_later(grace_s, lambda: self.kill(tree))

    def kill(self, tree: Tree) -> None:
        """SIGKILL to every member, until none is left."""
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
        """Reap what has ended, adopt what it left, and report trees of which nothing is left."""
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
                self._forget_stray(pid)
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
        # Orphans are our children before their parent's death is told: this list is complete for those reaped
        # above.
        helper = 0 if self._spawner is None else self._spawner.pid
        for pid in processes.own_children():
            if pid not in self._roots and pid not in self._strays and pid != helper:
                self._adopt(pid)
        if self._candidates:
            self._settle_candidates()
        for tree in [*self._ended.values()]:
            if not tree.strays:
                self._remove(tree)
            elif tree.term_until is None:
                # Its command is over: nothing asked these to stay. Under TERM they have until the grace ends.
                tree.is_killed = True
                self._kill_members(tree)
                self._kill_again()
        for pid, owner in self._strays.items():
            if owner is None and pid not in self._candidates:
                _signal(pid, signal.SIGKILL)

    def _remove(self, tree: Tree) -> None:
        del self._ended[tree.pid]
        del self._by_marker[tree.marker]
        if self._known:
            self._known = {key: other for key, other in self._known.items() if other is not tree}
        if tree.term_until is not None:
            tree.term_until.cancel()
        self._on_gone(tree)

    def _kill_again(self) -> None:
        """Members appear without a word to us: a fork by one that is dying, an orphan of a member killed deep
        down.
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

    # -- Strays
    # -------------------------------------------------------------------------------------------------

    def _adopt(self, pid: int) -> None:
        """Tell a child that is no root to its tree. It is our child and not reaped: its pid is its own."""
        tree, is_certain = self._tree_of(pid)
        if not is_certain and len(self._by_marker) == 1:
            (tree,) = self._by_marker.values()
        elif not is_certain and self._by_marker:
            self._candidates[pid] = set(self._by_marker.values())
        self._assign(pid, tree)

    def _tree_of(self, pid: int) -> tuple[Tree | None, bool]:
        """The tree a stray comes from, and whether that is certain: `(None, True)` if from one that is gone."""
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
        marker = self._marker_of(pid)
        return self._by_marker.get(marker), bool(marker)

    def _assign(self, pid: int, tree: Tree | None) -> None:
        self._strays[pid] = tree
        if tree is not None:
            tree.strays.add(pid)

    def _note_descendants(self, tree: Tree) -> None:
        for each in processes.descendants(_children(tree)):
            self._known[each.pid, each.start_ticks] = tree

    def _marker_of(self, pid: int) -> bytes:
        """Its line of the environment it was started with; empty if it has none."""
        for _ in range(EXEC_LOOKS):
            environ = processes.environment(pid)
            # In the middle of an exec a process has neither environment nor arguments; one whose environment was
            # cleared has arguments.
            if environ or processes.command_line(pid):
                break
            os.sched_yield()
        return next((line for line in environ.split(b"\0") if line.startswith(self._prefix)), b"")

    def _settle_candidates(self) -> None:
        """Strays of unknown origin: perhaps it is known by now; else they are of those trees that still live."""
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
                _signal(pid, signal.SIGTERM)  # it was not known to be meant
                _signal(pid, signal.SIGCONT)

    def _forget_stray(self, pid: int) -> None:
        tree = self._strays.pop(pid, None)
        self._candidates.pop(pid, None)
        if tree is not None:
            tree.strays.discard(pid)

    # -- Signals
    # ------------------------------------------------------------------------------------------------

    def _kill_members(self, tree: Tree) -> None:
        """SIGKILL to all of it at once; else to those members that are our children: theirs become ours by that, and
        are next.
        """
        if self._spawner is not None and self._spawner.kill(TaskID(str(tree.key))):
            return
        self._note_descendants(tree)
        for pid in _children(tree):
            _signal_group(pid, signal.SIGKILL)
            _signal(pid, signal.SIGKILL)

    def _signal_all(self, tree: Tree, number: signal.Signals) -> None:
        """A signal to every member there is now, and SIGCONT, or one that is stopped would not hear it."""
        self.reap()  # strays that came since are members too
        children = _children(tree)
        groups = set(children)
        # Before any signal: with a member's death its children pass to us, and could not be found below it.
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
        """What the kernel says is in its cgroup now; None if it has none."""
        return None if self._spawner is None else self._spawner.members(TaskID(str(tree.key)))

    def _outside(self, tree: Tree, groups: set[int]) -> list[Process]:
        """Members that are no children of ours and in none of these process groups."""
        members = self._members(tree)
        if members is None:
            found = processes.descendants(_children(tree))
        else:
            # Most are in the group of the root, and a look at the group costs a hundredth of one into /proc.
            strangers = [pid for pid in members if pid not in groups and _group(pid) not in groups]
            seen = [process for pid in strangers if (process := processes.read(pid)) is not None]
            # Who has a number still is who had it when its time of start was read, or a member as well.
            still = set(self._members(tree) or ()) if seen else set()
            found = [process for process in seen if process.pid in still]
        return [process for process in found if process.group not in groups]


def _children(tree: Tree) -> list[int]:
    """Those members that are children of ours and not reaped."""
    return [tree.pid, *tree.strays] if tree.wait_status is None else [*tree.strays]


def _group(pid: int) -> int:
    """Its process group; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _ignore(number: int, frame: object) -> None:
    """SIGCHLD needs a handler for its byte to be written."""


def _signal(pid: int, number: signal.Signals) -> None:
    """To a child of ours that is not reaped: its pid is its own, alive or dead."""
    with contextlib.suppress(PermissionError):  # a set-uid program: the slave ends it with the container
        os.kill(pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    """To the process group that this unreaped child leads, if it leads one."""
    # It leads none: a group of its number is its own or does not exist. Or a set-uid program leads it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _peak_bytes() -> int:
    """Of resident memory, as getrusage counts it: also what this process was before an exec."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
