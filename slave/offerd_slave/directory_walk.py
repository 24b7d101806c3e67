"""What walks of directories that others write to have in common."""

from __future__ import annotations

import os

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags for open(2) of a directory, which may have been replaced by a link: that is refused."""
ENTRIES_AT_ONCE = 500
PAUSE_S = 0.005
"""Pause after each `ENTRIES_AT_ONCE` entries, as the thread shares the interpreter with the slave's loop."""
