"""A slave on a kernel without clone3 (before 5.3) and without cgroup.kill (before 5.14). Run in a process of its own."""

from __future__ import annotations

import ctypes
import struct
from typing import NoReturn

from offerd_isolation.cgroups.controllers import Core, FileMissing
from offerd_slave.options import SlaveOptions
from offerd_slave.process import run_slave

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SYS_CLONE3 = 435
ENOSYS = 38
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000


class _NotThere:
    """A control file that this kernel does not have."""

    def __set__(self, instance: Core, value: object) -> NoReturn:
        raise FileMissing(f"cannot write {instance.path}/cgroup.kill: no such file")


def hide_clone3() -> None:
    """Make clone3 fail with ENOSYS in this process and its descendants, by a filter of system calls. Needs root."""
    # The number of the system call is the first field of seccomp_data.
    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (_LOAD, 0, 0, 0),
            (_IF_EQUAL, 0, 1, SYS_CLONE3),
            (_RETURN, 0, 0, _ERRNO | ENOSYS),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    held = ctypes.create_string_buffer(program)
    described = struct.pack("@HP", 4, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot set a filter of system calls")


def run_slave_of_an_old_kernel(options: SlaveOptions) -> int:
    """`run_slave`; its zygote, shims and spawners have no clone3 either."""
    hide_clone3()
    Core.kill = _NotThere()  # type: ignore[assignment]
    return run_slave(options)
