"""A vfork into a cgroup: clone3(2) with CLONE_VM, for a child that makes a list of system calls, the last an execve.

A fork copies the page tables of a Python process, and each page that its child writes to: five times the cost of a vfork,
measured with `/bin/true`. But a vfork's child uses its parent's memory and stack, where no Python can run, and glibc's
posix_spawn takes no cgroup before 2.39, and CLONE_PARENT never. So the child runs the 72 bytes of machine code below, which
write to no memory but `trouble`. This works only on x86-64; elsewhere, or if no memory may be made executable, `load` returns
None, and the caller forks.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable

CODE = bytes.fromhex(
    # long run(clone_args *rdi, size_t rsi, long calls[][4] rdx, long *trouble rcx):
    "49 89 d0"  #              mov r8, rdx         a system call changes rax, rcx and r11
    "49 89 c9"  #              mov r9, rcx
    "b8 b3 01 00 00"  #        mov eax, 435        clone3(rdi, rsi)
    "0f 05"  #                 syscall
    "48 85 c0"  #              test rax, rax
    "74 01"  #                 jz child
    "c3"  #                    ret                 the parent, or an error: pid or -errno
    "4c 89 c3"  #       child: mov rbx, r8
    "4c 89 cd"  #              mov rbp, r9
    "48 8b 03"  #       next:  mov rax, [rbx]      the number of the call
    "48 8b 7b 08"  #           mov rdi, [rbx+8]    and its three arguments
    "48 8b 73 10"  #           mov rsi, [rbx+16]
    "48 8b 53 18"  #           mov rdx, [rbx+24]
    "0f 05"  #                 syscall
    "48 3d 00 f0 ff ff"  #     cmp rax, -4096
    "77 06"  #                 ja fail             -4095 to -1 is an error
    "48 83 c3 20"  #           add rbx, 32
    "eb e1"  #                 jmp next
    "48 89 45 00"  #    fail:  mov [rbp], rax
    "bf 7f 00 00 00"  #        mov edi, 127
    "b8 e7 00 00 00"  #        mov eax, 231        exit_group(127)
    "0f 05"  #                 syscall
)
DUP2, EXECVE, CHDIR, SETSID, SETGROUPS, SETRESUID, SETRESGID = 33, 59, 80, 112, 116, 117, 119
"""Numbers of system calls on x86-64."""
PROT_READ, PROT_EXEC = 1, 4
Run = Callable[..., int]


def load() -> Run | None:
    """The code as a function; None if it cannot be used here."""
    if os.uname().machine != "x86_64":
        return None
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(CODE)
    held = ctypes.c_char.from_buffer(page)
    address = ctypes.addressof(held)
    size = ctypes.c_size_t(mmap.PAGESIZE)
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), size, PROT_READ | PROT_EXEC) != 0:
        return None
    # PYFUNCTYPE keeps the GIL: nothing in the child could take it back.
    prototype = ctypes.PYFUNCTYPE(
        ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p
    )
    code = prototype(address)
    code.held = held  # type: ignore[attr-defined]  # the page lives as long as the function
    return code


class Calls:
    """The list of system calls for one child, with everything that they point to."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._kept: list[object] = []
        self._trouble = ctypes.c_long(0)

    def add(self, number: int, *arguments: int | bytes | list[bytes]) -> None:
        """Add a call; bytes are a string, a list of them an array of strings. Raises `ValueError` for a zero byte."""
        values = [self._address(each) if not isinstance(each, int) else each for each in arguments]
        self._rows += [number, *values, *[0] * (3 - len(values))]

    def add_setgroups(self, groups: list[int]) -> None:
        array = (ctypes.c_uint32 * len(groups))(*groups)
        self._kept.append(array)
        self._rows += [SETGROUPS, len(groups), ctypes.addressof(array), 0]

    def _address(self, value: bytes | list[bytes]) -> int:
        if isinstance(value, bytes):
            if b"\0" in value:
                raise ValueError("a zero byte")
            pointer = ctypes.c_char_p(value)
            self._kept.append(value)
            return ctypes.cast(pointer, ctypes.c_void_p).value or 0
        if any(b"\0" in each for each in value):
            raise ValueError("a zero byte")
        array = (ctypes.c_char_p * (len(value) + 1))(*value, None)
        self._kept += [array, value]
        return ctypes.addressof(array)

    def run(self, run: Run, clone_arguments: ctypes.Structure) -> tuple[int, int]:
        """Returns the pid, or minus the errno of the clone; and the errno of the call that failed, 0 if execve succeeded."""
        rows = (ctypes.c_long * len(self._rows))(*self._rows)
        pid = run(
            ctypes.addressof(clone_arguments),
            ctypes.sizeof(clone_arguments),
            ctypes.addressof(rows),
            ctypes.addressof(self._trouble),
        )
        return pid, -self._trouble.value
