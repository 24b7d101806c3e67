"""The exit statuses of `offerd`'s commands, except those that a task's own program gave."""

from __future__ import annotations

EXIT_FAILURE = 1
EXIT_OUTPUT_LOST = 1
"""The command itself succeeded, but a part of its output is missing."""
EXIT_BAD_INPUT = 2
EXIT_TIMEOUT = 124
EXIT_NOT_STARTED = 127
EXIT_INTERRUPTED = 130
"""After Ctrl-C, as in a shell: 128 + SIGINT."""
EXIT_KILLED = 137
EXIT_BROKEN_PIPE = 141
"""Nobody reads the output: 128 + SIGPIPE."""
EXIT_TERMINATED = 143
