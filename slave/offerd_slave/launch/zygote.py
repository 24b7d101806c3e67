"""The zygote: a Python process that has imported what executors need, and forks shims. The slave starts it.

It is single-threaded. Its only socket leads to the slave; when the slave closes it, the zygote ends, and shims go on. It
imports no zmq, except where executors enter containers: that would add 2.7 MB to every shim, while an executor imports it
in 22 ms.

It is a subreaper: when a shim is killed, its descendants become the zygote's children. A shim that ends by itself leaves
nothing. So a child that the zygote has not forked is an orphan whose shim is dead, and is killed at once, whatever its
session or environment. (If the zygote is dead too, init inherits the orphans, and the isolation module finds them by their
mark.)
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
from contextlib import suppress

import msgspec

from offerd_linux import clone, memory, prctl, processes
from offerd_linux.exits import exit_words
from offerd_linux.start_area import StartArea
from offerd_slave.launch.executor_entry import run_module
from offerd_slave.launch.messages import (
    MAX_PACKET_BYTES,
    Answer,
    LaunchRequest,
    ShimEnded,
    ShimFailed,
    ZygoteReady,
)
from offerd_slave.launch.shim import ModuleToRun, ShimFiles, run_shim

PRELOADED = ("offerd.wire.codec", "offerd.messages")
"""Modules that most executors import. Each costs memory in every shim, which a test limits."""

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(LaunchRequest).decode


class Zygote:
    """Forks shims and reaps them."""

    def __init__(self, slave: int) -> None:
        self.slave = slave
        self.area = StartArea()
        self.droppable = memory.clean_file_areas()
        self.shims: dict[int, str] = {}  # pid: container id

    def serve(self) -> ModuleToRun | None:
        """Serve requests until the slave is gone, then return None. In a fork that is to run a module, return that."""
        wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A wakeup fd, not a handler that reaps: a handler could run after a fork, before the shim's pid is noted.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(self.slave, select.POLLIN)
        self.answer(ZygoteReady())
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if wake in ready:
                os.read(wake, 4096)
                self.reap()
            if self.slave in ready:
                try:
                    packet = os.read(self.slave, MAX_PACKET_BYTES)  # one packet: it is SOCK_SEQPACKET
                except ConnectionResetError:  # the slave has closed it with answers unread
                    return None
                if not packet:
                    return None
                if (module := self.launch(_decode_request(packet), (wake, wake_writer))) is not None:
                    return module

    def launch(self, request: LaunchRequest, wake: tuple[int, int]) -> ModuleToRun | None:
        """Fork a shim. Returns something only in a fork of the shim, an executor that is to run a module."""
        try:
            files = ShimFiles(request)
        except OSError as error:
            self.answer(ShimFailed(request.container_id, f"no shim: {error}"))
            return None
        try:
            pid = clone.fork_into(files.cgroup) if files.cgroup >= 0 else os.fork()
        except OSError as error:
            files.close()
            self.answer(ShimFailed(request.container_id, f"no shim: {error}"))
            return None
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in wake:
                os.close(fd)
            return run_shim(request, files, self.slave, self.area, self.droppable)
        files.close()
        self.shims[pid] = request.container_id
        return None

    def reap(self) -> None:
        """Reap shims that have ended, report them to the slave, and kill the orphans of a killed shim."""
        orphans = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            container_id = self.shims.pop(pid, None)
            orphans |= container_id is None or status != 0
            if container_id is not None:
                how = exit_words(os.waitstatus_to_exitcode(status))
                self.answer(ShimEnded(container_id, f"its shim {how} before the executor was started"))
        if orphans:
            # Orphans become children of the zygote before it gets the SIGCHLD for their shim. Killing one of them may make
            # new orphans, which the next call finds.
            for child in processes.children(os.getpid()):
                if child not in self.shims and (process := processes.read(child)) is not None:
                    processes.kill_all([process, *processes.descendants(child)])

    def answer(self, message: Answer) -> None:
        # It fails if the slave has died: the next read finds that.
        with suppress(BrokenPipeError, ConnectionResetError):
            os.write(self.slave, _encode(message))


def main() -> None:
    """Run the zygote. `sys.argv` has the number of the inherited socket, modules to import, and room for a title."""
    slave = int(sys.argv[1])
    os.set_inheritable(slave, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl.become_subreaper()
    prctl.set_name(b"offerd-zygote")
    for name in (*PRELOADED, *sys.argv[2:-1]):
        importlib.import_module(name)
    # The garbage collector writes to objects that it visits, which would copy their pages in every fork.
    gc.collect()
    gc.disable()
    gc.freeze()
    memory.trim_heap()
    zygote = Zygote(slave)
    module = zygote.serve()
    if module is None:
        os._exit(0)
    # At the top of the stack, so that the interpreter ends as it does for any program.
    run_module(module.request, module.trouble, zygote.area)
