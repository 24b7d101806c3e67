"""Executors for tests of launching: `main()` does what its first argument names."""

from __future__ import annotations

import os
import signal
import sys
import time

from offerd.protocol.spawner_messages import SPAWNER


def main() -> int:
    """Look the function up by name. No spawner: what runs here is only what a test has asked for."""
    if SPAWNER in os.environ:
        fd, _, pid = os.environ.pop(SPAWNER).partition(":")
        os.close(int(fd))
        os.waitpid(int(pid), 0)
    return int(globals()[sys.argv[1]](*sys.argv[2:]) or 0)


def forever() -> None:
    """Print `ready`, and stay."""
    print("ready", flush=True)
    while True:
        signal.pause()


def exit_with(status: str) -> int:
    """End with this status."""
    return int(status)


def die_by(number: str) -> None:
    """End by this signal."""
    os.kill(os.getpid(), int(number))
    signal.pause()


def raise_error() -> None:
    """End by an exception."""
    raise RuntimeError("on purpose")


def show(*_: str) -> None:
    """Print what it was given."""
    for name in sorted(os.environ):
        print(f"{name}={os.environ[name]}")
    print("argv", *sys.argv)
    print("cwd", os.getcwd())
    print("fds", *sorted(os.listdir("/proc/self/fd"), key=int))
    with open("/proc/self/status") as status:
        ignored = int(next(line for line in status if line.startswith("SigIgn")).split()[1], 16)
    print("ignored", *[n for n in range(1, 32) if ignored >> (n - 1) & 1])
    print("blocked", *signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    print("session", os.getsid(0) == os.getpid())
    print("on stderr", file=sys.stderr)


def write_lines(lines: str, width: str) -> None:
    """Numbered lines of the same width."""
    for number in range(int(lines)):
        sys.stdout.write(f"{number:0{int(width) - 1}d}\n")


def litter(*kinds: str) -> None:
    """Leave children of these kinds, print `ready`, and stay: plain, stubborn, own_session, orphan, stranger."""
    for kind in kinds:
        _litter(kind)
    forever()


def litter_and_exit(*kinds: str) -> int:
    """The same, and end well at once."""
    for kind in kinds:
        _litter(kind)
    return 0


def hog(megabytes: str) -> None:
    """Hold so much memory, burn a little time."""
    held = bytearray(int(megabytes) << 20)
    end = time.process_time() + 0.1
    while time.process_time() < end:
        held[0] ^= 1
    forever()


def tasks(*names: str) -> None:
    """A child for each name, marked as its task, with a child of its own in another session."""
    for name in names:
        environment = {**os.environ, "OFFERD_TASK_ID": name}
        os.posix_spawn("/bin/sh", ["sh", "-c", "setsid sleep 1000 & sleep 1000; true"], environment)
    forever()


def hogs() -> None:
    """Two children, marked as tasks: of `alone` a child has 64 MiB; `shared` has 24, and four forks that share these."""
    programs = {
        "alone": "import os, time\nif os.fork() == 0:\n os.setsid()\n held = bytearray(os.urandom(1)) * (64 << 20)",
        "shared": "import os, time\nheld = bytearray(os.urandom(1)) * (24 << 20)\n"
        "for _ in range(4): os.fork() or time.sleep(1000)",
    }
    for name, program in programs.items():
        environment = {**os.environ, "OFFERD_TASK_ID": name}
        words = [sys.executable, "-c", f"{program}\nprint('has it', flush=True)\ntime.sleep(1000)"]
        os.posix_spawn(sys.executable, words, environment)
    forever()


def _litter(kind: str) -> None:
    ready, ready_writer = os.pipe()
    child = os.fork()
    if child == 0:
        if kind == "stubborn":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        if kind in ("own_session", "stranger"):
            os.setsid()
        if kind in ("orphan", "stranger") and os.fork() != 0:
            os._exit(0)
        if kind == "stranger":  # another parent, session and environment
            os.setsid()
            os.set_inheritable(ready_writer, True)
            os.execve("/bin/sh", ["sh", "-c", f"echo >&{ready_writer}; exec sleep 1000"], {})
        os.write(ready_writer, b"\n")
        while True:
            signal.pause()
    os.read(ready, 1)
    if kind in ("orphan", "stranger"):
        os.waitpid(child, 0)  # the process between has ended
    os.close(ready)
    os.close(ready_writer)


def comets(count: str) -> None:
    """`count` chains of processes, each of which forks the next and ends, below an executor that is stopped and reaps none."""
    from offerd_linux import prctl

    prctl.become_subreaper()
    for _ in range(int(count)):
        if os.fork() == 0:
            while os.fork() == 0:
                os.setsid()
            os._exit(0)
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)
