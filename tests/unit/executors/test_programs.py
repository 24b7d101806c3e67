"""Starting programs: tasks start also where the kernel or a filter refuses a policy."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from offerd.ids import TaskID
from offerd_executors.programs import Programs


def start_true(programs: Programs, directory: Path) -> int:
    """The exit status of a program that does nothing."""
    here = os.getcwd()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        pid = programs.start(TaskID("t"), ["true"], {"PATH": os.defpath}, str(directory), null, null)
    finally:
        os.chdir(here)
        os.close(null)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
@pytest.mark.parametrize("call", ["sched_getscheduler", "sched_setscheduler"])
def test_without_scheduling_policies_none_is_set(
    error: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, refused)
    programs = Programs()
    programs.interrupt_no_task()
    assert start_true(programs, tmp_path) == 0


def test_a_policy_that_only_root_may_leave_is_the_tasks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.posix_spawn

    def refuses_policies(*words: Any, **options: Any) -> int:
        if "scheduler" in options:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), words[0])
        return real(*words, **options)

    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    monkeypatch.setattr(os, "posix_spawn", refuses_policies)
    programs = Programs()
    programs.interrupt_no_task()
    assert start_true(programs, tmp_path) == 0
