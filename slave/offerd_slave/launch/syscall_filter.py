"""A seccomp filter: system calls that processes in a container may not make. Executors enter a container from outside, so the
engine's own filter does not apply to them.

A task has no capabilities. But in a user namespace of its own it would have all of them, and could reach kernel code that is
otherwise only root's, where most of the security holes were found. So user namespaces are refused, and also system calls that
are useless without capabilities or have often been a hole: mounts, other namespaces, kernel modules and programs, keys,
handles of files, userfaultfd.

Sources: Documentation/userspace-api/seccomp_filter.rst, include/uapi/linux/{filter,seccomp,audit}.h, and the kernel's tables of
system calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from offerd_linux import namespaces, prctl

# struct seccomp_data
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = (
    0,
    4,
    16,
)  # of the argument the lower half, as both machines are little-endian
# BPF: load a word, jump if equal, if greater or equal, if a bit is set; return
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
"""On x86_64 the numbers from here on belong to the x32 ABI, which has the same architecture number."""


class Calls(NamedTuple):
    """A machine's audit architecture number, and its numbers of system calls."""

    architecture: int
    clone: int
    unshare: int
    refused: tuple[int, ...]


_SINCE_4_20 = (
    428,  # open_tree
    429,  # move_mount
    430,  # fsopen
    431,  # fsconfig
    432,  # fsmount
    433,  # fspick
    442,  # mount_setattr
)
"""Numbers that are the same on all machines."""
_CLONE3 = 435

MACHINES = {
    "x86_64": Calls(
        0xC000003E,
        clone=56,
        unshare=272,
        refused=(
            155,  # pivot_root
            165,  # mount
            166,  # umount2
            175,  # init_module
            176,  # delete_module
            246,  # kexec_load
            248,  # add_key
            249,  # request_key
            250,  # keyctl
            298,  # perf_event_open
            304,  # open_by_handle_at
            308,  # setns
            313,  # finit_module
            320,  # kexec_file_load
            321,  # bpf
            323,  # userfaultfd
            *_SINCE_4_20,
        ),
    ),
    "aarch64": Calls(
        0xC00000B7,
        clone=220,
        unshare=97,
        refused=(
            39,  # umount2
            40,  # mount
            41,  # pivot_root
            104,  # kexec_load
            105,  # init_module
            106,  # delete_module
            217,  # add_key
            218,  # request_key
            219,  # keyctl
            241,  # perf_event_open
            265,  # open_by_handle_at
            268,  # setns
            273,  # finit_module
            280,  # bpf
            282,  # userfaultfd
            294,  # kexec_file_load
            *_SINCE_4_20,
        ),
    ),
}


def program(machine: str) -> bytes:
    """The filter as BPF code. Calls of another architecture (32 bits) fail with ENOSYS; so does clone3, whose flags a filter
    cannot see: libraries then use clone."""
    calls = MACHINES[machine]
    missing, refused = _ERRNO | errno.ENOSYS, _ERRNO | errno.EPERM
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JEQ, 1, 0, calls.architecture),
        (_RETURN, 0, 0, missing),
        (_LOAD, 0, 0, _NUMBER),
        (_JGE, 0, 1, _X32),
        (_RETURN, 0, 0, missing),
        (_JEQ, 0, 1, _CLONE3),
        (_RETURN, 0, 0, missing),
    ]
    for number in calls.refused:
        code += [(_JEQ, 0, 1, number), (_RETURN, 0, 0, refused)]
    code += [
        (_JEQ, 2, 0, calls.clone),
        (_JEQ, 1, 0, calls.unshare),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JSET, 0, 1, namespaces.CLONE_NEWUSER),
        (_RETURN, 0, 0, refused),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def install() -> None:
    """Install the filter for this process and all its descendants, for good. Needs CAP_SYS_ADMIN or no_new_privs. Raises
    `OSError`."""
    machine = os.uname().machine
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no filter of system calls for {machine}")
    content = program(machine)
    code = ctypes.create_string_buffer(content, len(content))
    # struct sock_fprog: the number of instructions, and their address
    head = struct.pack("@HP", len(content) // 8, ctypes.addressof(code))
    prctl.filter_calls(head)
