"""Removes what tasks have left: directory trees of any depth and mode, without following symbolic links."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

NAMES_AT_ONCE = 10_000


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it, following no link. Raises `OSError`."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove_tree_in(parent, path.name)
    finally:
        os.close(parent)


def try_to_remove(path: Path) -> str:
    """The same, as far as possible. Returns why not everything is gone, empty if it is."""
    try:
        remove_tree(path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def remove_entry(directory: int, name: str) -> None:
    """Remove this entry of a directory; if it is a directory, with everything in it. Raises `OSError`."""
    if _is_directory(name, directory):
        _remove_tree_in(directory, name)
    else:
        os.unlink(name, dir_fd=directory)


def _remove_tree_in(parent: int, name: str) -> None:
    """Needs two descriptors however deep the tree is: directories found below are first moved up to the top."""
    top = _open_directory(name, parent)
    try:
        moved = 0
        while names := _names_in(top):
            for each in names:
                if not _is_directory(each, top):
                    os.unlink(each, dir_fd=top)
                    continue
                below = _open_directory(each, top)
                try:
                    while children := _names_in(below):
                        for child in children:
                            if _is_directory(child, below):
                                # A new name is needed. It cannot clash: names there have 255 bytes at most.
                                moved = _move_up(child, below, top, moved)
                            else:
                                os.unlink(child, dir_fd=below)
                finally:
                    os.close(below)
                os.rmdir(each, dir_fd=top)
        os.rmdir(name, dir_fd=parent)
    finally:
        os.close(top)


def _names_in(directory: int) -> list[str]:
    """Some of the names in a directory. Tasks may leave millions of files, and their names would take half a gigabyte."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in itertools.islice(entries, NAMES_AT_ONCE)]


def _move_up(name: str, directory: int, top: int, moved: int) -> int:
    os.close(_open_directory(name, directory))  # to move a directory, it must be writable (its `..` changes)
    while True:
        moved += 1
        target = f".removed.{moved}"
        if not os.path.lexists(f"/proc/self/fd/{top}/{target}"):
            os.rename(name, target, src_dir_fd=directory, dst_dir_fd=top)
            return moved


def _is_directory(name: str, directory: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _open_directory(name: str, directory: int) -> int:
    """Open a directory so that its entries can be removed. Tasks leave directories that even their owner may not enter."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags | os.O_PATH, dir_fd=directory)
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", flags | os.O_RDONLY, dir_fd=handle)
    finally:
        os.close(handle)
