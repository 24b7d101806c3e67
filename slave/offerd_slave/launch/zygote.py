"""The zygote: a Python that has imported what executors need, and forks. Run by the slave, never by people.

Single-threaded; its only socket is the slave's, and when the other end of that closes it ends, and shims go on. It
imports no zmq, except where executors enter containers: a fork with it is 2.7 MB larger, in every shim; an executor that wants
it pays 22 ms.

It is a subreaper: when a shim is killed, what it leaves becomes ours. A shim that ends by itself leaves nothing, so a
child of ours that we have not forked is an orphan whose shim nobody can ask any more: it is killed at once, whatever its
session or environment. (When the zygote dies too, init inherits; then the isolation module finds the container's
processes by their mark.)
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
from offerd_slave.launch.messages import MAX_PACKET_BYTES, Answer, Job, ShimEnded, ShimFailed, ZygoteReady
from offerd_slave.launch.shim import ModuleToRun, ShimFiles, run_shim

PRELOADED = ("offerd.wire.codec", "offerd.messages")
"""What most executors import. Each costs memory in every shim, which has a test."""

_encode = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(Job).decode


class Zygote:
    """Forks shims, and reaps them."""

    def __init__(self, slave: int) -> None:
        self.slave = slave
        self.area = StartArea()
        self.droppable = memory.clean_file_areas()
        self.shims: dict[int, str] = {}  # pid: container

    def serve(self) -> ModuleToRun | None:
        """Until the slave has gone; or, in a fork that is the executor of a module, until it is to run."""
        wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A wakeup fd and not a handler that reaps: a handler could run between a fork and the note of its pid.
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
                except ConnectionResetError:  # closed with answers of ours unread
                    return None
                if not packet:
                    return None
                if (module := self.launch(_decode_job(packet), (wake, wake_writer))) is not None:
                    return module

    def launch(self, job: Job, wake: tuple[int, int]) -> ModuleToRun | None:
        """Fork a shim. Returns something only in a fork of it that is to be the executor of a module."""
        try:
            files = ShimFiles(job)
        except OSError as error:
            self.answer(ShimFailed(job.container_id, f"no shim: {error}"))
            return None
        try:
            pid = clone.fork_into(files.cgroup) if files.cgroup >= 0 else os.fork()
        except OSError as error:
            files.close()
            self.answer(ShimFailed(job.container_id, f"no shim: {error}"))
            return None
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in wake:
                os.close(fd)
            return run_shim(job, files, self.slave, self.area, self.droppable)
        files.close()
        self.shims[pid] = job.container_id
        return None

    def reap(self) -> None:
        """Wait for shims that have ended, tell the slave, and kill what a killed one has left to us."""
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
            # Orphans become ours before their shim's end is told to us. Those of one killed here come with the next turn.
            for child in processes.children(os.getpid()):
                if child not in self.shims and (process := processes.read(child)) is not None:
                    processes.kill_all([process, *processes.descendants(child)])

    def answer(self, message: Answer) -> None:
        # Refused if the slave has died: the next read tells us.
        with suppress(BrokenPipeError, ConnectionResetError):
            os.write(self.slave, _encode(message))


def main() -> None:
    """`sys.argv` is the number of the inherited socket, modules to import, and room for a title."""
    slave = int(sys.argv[1])
    os.set_inheritable(slave, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl.become_subreaper()
    prctl.set_name(b"offerd-zygote")
    for name in (*PRELOADED, *sys.argv[2:-1]):
        importlib.import_module(name)
    # What is collected, or only looked at by the collector, is copied in every fork.
    gc.collect()
    gc.disable()
    gc.freeze()
    memory.trim_heap()
    zygote = Zygote(slave)
    module = zygote.serve()
    if module is None:
        os._exit(0)
    # At the top of the stack: so the interpreter ends as it does for any program.
    run_module(module.job, module.trouble, zygote.area)
