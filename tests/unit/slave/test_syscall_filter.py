"""The filter of system calls, tested in separate processes."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from offerd_slave.launch import syscall_filter

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
ARM, X86_64, I386 = 0xC00000B7, 0xC000003E, 0x40000003

FILTERED = """
from offerd_linux import prctl
from offerd_slave.launch import syscall_filter
prctl.forbid_new_privileges()
syscall_filter.install()
"""


def python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", FILTERED + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def decision(machine: str, architecture: int, number: int, first: int = 0) -> int:
    """The kernel's decision: this runs the filter's instructions as the kernel does."""
    content = syscall_filter.program(machine)
    code = list(struct.iter_unpack("=HBBI", content))
    words = {0: number, 4: architecture, 16: first & 0xFFFFFFFF}
    at = value = 0
    while True:
        operation, then, otherwise, constant = code[at]
        at += 1
        if operation == 0x06:
            return int(constant)
        if operation == 0x20:
            value = words[constant]
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}
            at += then if holds[operation] else otherwise


@pytest.mark.parametrize(
    ("machine", "architecture", "clone", "unshare", "mount", "read"),
    [("x86_64", X86_64, 56, 272, 165, 0), ("aarch64", ARM, 220, 97, 40, 63)],
)
def test_the_filter_refuses_dangerous_calls_and_allows_others(
    machine: str, architecture: int, clone: int, unshare: int, mount: int, read: int
) -> None:
    def of(number: int, first: int = 0) -> int:
        return decision(machine, architecture, number, first)

    new_user, new_mounts, thread = 0x10000000, 0x00020000, 0x003D0F00
    assert of(read) == ALLOW
    assert of(read, new_user) == ALLOW
    assert of(clone, thread) == ALLOW
    assert of(clone, new_user | 17) == EPERM
    assert of(unshare, new_mounts) == ALLOW, "refused anyway without a capability"
    assert of(unshare, new_user | new_mounts) == EPERM
    assert of(mount) == EPERM
    assert of(428) == EPERM, "open_tree"
    assert of(435) == ENOSYS, "clone3: libraries then use clone"
    assert decision(machine, I386, read) == ENOSYS
    assert of(0x40000000 + read) == ENOSYS, "x32"


def test_a_user_namespace_cannot_be_made() -> None:
    said = python(
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), ctypes.get_errno(), flush=True)\n"
        "print(os.system('unshare -Ur true 2>&1'))\n"
    )
    first, *_, last = said.splitlines()
    assert first == "-1 1"
    assert last != "0"


def test_threads_and_programs_work_under_the_filter() -> None:
    said = python(
        "import subprocess, threading, multiprocessing, os\n"
        "found = []\n"
        "thread = threading.Thread(target=lambda: found.append('thread'))\n"
        "thread.start()\n"
        "thread.join()\n"
        "found.append(subprocess.run(['echo', 'program'], stdout=subprocess.PIPE, text=True).stdout.strip())\n"
        "found.append(subprocess.check_output('echo shell', shell=True, text=True, start_new_session=True).strip())\n"
        "pid = os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 3'], {})\n"
        "found.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "print(*found)\n"
    )
    assert said == "thread program shell 3\n"
