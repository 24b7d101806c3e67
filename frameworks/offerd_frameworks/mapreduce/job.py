"""A job: what its author wants to run, over which input; and the checks of that."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import offerd
from offerd import BadInput
from offerd_frameworks.mapreduce import keys
from offerd_frameworks.mapreduce.inputs import DATA_PREFIX

BLOCK_BYTES = 32 << 20
"""Most input of one map task by default: some seconds of work."""
LEAST_BLOCK_BYTES = 2 << 20
"""Least input of one map task: less is hardly worth starting a process for."""
MAPS_PER_CPU = 2
"""Maps for each cpu if the input is small, so that nobody waits long for the last map."""
MAX_FILE_BYTES = 64 << 20
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Job:
    """One MapReduce job.

    `mapper`, `reducer` and `combiner` are shell commands with the conventions of Hadoop Streaming: they read lines and write
    lines `KEY TAB VALUE`; the reducer's and combiner's input is sorted by key. `input` names files and directories that every
    slave sees under the same path, or data sets as `data:SET`; patterns and commas are allowed. `output` is a directory that
    must not exist yet, or be empty. `files` are copied into each task's working directory. With `reduces=0` the mappers' output
    is the job's.

    A map reads about `block_bytes`; None: as suits the input and the cluster. `time_limit_s` is for each task; None lets the
    framework choose and raise it. `delay_s` is how long the job waits for a slave that holds a block before it reads the block
    from another host (delay scheduling).
    """

    input: tuple[str, ...]
    output: str
    mapper: str
    reducer: str = ""
    combiner: str = ""
    reduces: int = 1
    files: tuple[str, ...] = ()
    name: str = ""
    cpus: str = "1"
    mem: str = "256M"
    block_bytes: int | None = None
    time_limit_s: float | None = None
    delay_s: float = 5.0
    max_attempts: int = 4
    speculate: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int | None = None
    """The commands' umask; None: 0o022."""
    staged: Mapping[str, bytes] = field(default_factory=dict)
    """More files for the tasks' directories, by name."""
    reads_pieces: bool = False
    """The mapper reads all pieces of a split by itself, as Python functions do, and is started only once."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Hadoop's properties that define the key (`keys.NAMES`); without any, it is all before the first TAB, compared as bytes.
    """
    any_status: bool = False
    """A command with an exit status other than 0 has not failed (`stream.non.zero.exit.is.failure=false`)."""
    ended_by: str = ""
    """A file that mapper and reducer make in their working directory when they have done everything: without it they have
    failed, whatever their exit status. Empty: only the exit status counts."""

    def check(self) -> None:
        """Raise `BadInput` with one line if a field is invalid."""
        if not self.mapper.strip():
            raise BadInput("the mapper is missing; give a command, or `cat` for none")
        if self.reduces < 0:
            raise BadInput(
                f"{self.reduces} reduces are not possible; give 0 for a job of maps alone, or more"
            )
        if self.reduces and not self.reducer.strip():
            raise BadInput("the reducer is missing; give a command, or 0 reduces for a job of maps alone")
        if self.combiner and not self.reduces:
            raise BadInput("a combiner is useless without reduces; leave it out")
        if not self.input:
            raise BadInput("the input is missing; name files, directories, or data:SET")
        if self.block_bytes is not None and self.block_bytes < 1:
            raise BadInput("a block has at least one byte")
        if self.max_attempts < 1:
            raise BadInput("a task needs at least one attempt")
        for what, seconds in (("time limit", self.time_limit_s), ("delay", self.delay_s)):
            if seconds is not None and not 0 <= seconds < math.inf:
                raise BadInput(f"a {what} of {seconds} seconds is not possible")
        if self.umask is not None and not 0 <= self.umask <= 0o777:
            raise BadInput(f"a umask of {self.umask:o} is not possible; write one from 0 to 0o777")
        if self.time_limit_s == 0:
            raise BadInput("a time limit must be more than 0")
        keys.read(self.keys)
        self.resources()
        check_output(self.output)

    def resources(self) -> offerd.Resources:
        """The resources of one task. Raises `BadInput`."""
        found = offerd.Resources.of(cpus=self.cpus, mem=self.mem)
        if not found.millicpus:
            raise BadInput("a task needs some cpu; give it 0.1 or more")
        if found.mem_bytes < 32 << 20:
            raise BadInput(f"{self.mem} of memory is too little for a task; give it 32M or more")
        return found

    @property
    def title(self) -> str:
        """The name in listings."""
        return (
            _NAME.sub("-", self.name or self.mapper.split()[0].rpartition("/")[2]).strip("-.")[:40] or "job"
        )

    def block_bytes_for(self, input_bytes: int, cpus: float) -> int:
        """How many bytes each map reads, on a cluster of so many cpus."""
        if self.block_bytes is not None:
            return self.block_bytes
        even = input_bytes / max(1.0, cpus * MAPS_PER_CPU)
        return int(min(BLOCK_BYTES, max(LEAST_BLOCK_BYTES, even)))

    def read_files(self) -> dict[str, bytes]:
        """The contents of `files` and `staged`, by their names in a task's directory. Raises `BadInput`."""
        found = dict(self.staged)
        for text in self.files:
            path = Path(text)
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_FILE_BYTES + 1)  # a device may be endless
            except OSError as error:
                raise BadInput(f"cannot read the file {text}: {error.strerror}") from None
            if len(content) > MAX_FILE_BYTES:
                raise BadInput(
                    f"{text} is larger than {MAX_FILE_BYTES >> 20} MiB; put it where every slave sees it"
                )
            if path.name in found:
                raise BadInput(f"two files are called {path.name}; rename one of them")
            found[path.name] = content
        return found


def check_output(output: str) -> None:
    """Raise `BadInput` if the output exists already (a link counts wherever it leads), or cannot have this name."""
    if not output:
        raise BadInput("the output is missing; name a directory that does not exist yet")
    if output.startswith(DATA_PREFIX):
        raise BadInput(
            f"the output {output} is not a directory; name one, and store it with `offerd data put`"
        )
    try:
        status = os.lstat(Path(output))
        if stat.S_ISLNK(status.st_mode):
            raise BadInput(f"the output {output} is a link; name the directory itself")
        if not stat.S_ISDIR(status.st_mode) or os.listdir(output):
            raise BadInput(f"the output {output} exists already; remove it, or name another")
        if os.path.samestat(status, os.stat(".")):
            raise BadInput(
                f"the output {output} is the working directory, which is not replaced; name another"
            )
    except FileNotFoundError:
        pass
    except ValueError as error:  # a NUL
        raise BadInput(f"the output {output!r} is not possible: {error}") from None
    except OSError as error:
        raise BadInput(f"the output {output} is not possible: {error.strerror}") from None
