"""An MPI job as it was submitted, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import offerd


@dataclass(frozen=True)
class Job:
    """`ranks` processes of `argv` that start together or not at all.

    `need` is what each rank takes; `per_slave` the most ranks on one slave (None: as many as fit); `resubmits` how often the
    job is started again after it has lost a slave. `directory` is where the ranks run; it must exist on the slaves. `umask` is
    theirs (None: 0o022).
    """

    job_id: str
    argv: tuple[str, ...]
    ranks: int
    need: offerd.Resources
    per_slave: int | None = None
    time_limit_s: float | None = None
    resubmits: int = 0
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int | None = None

    def times(self, ranks: int) -> offerd.Resources:
        """The resources of so many ranks."""
        return offerd.Resources({name: amount * ranks for name, amount in self.need.scalars.items()})

    @property
    def total(self) -> offerd.Resources:
        return self.times(self.ranks)


@dataclass(frozen=True)
class Outcome:
    """The end of a job. `exit_status` is as in a shell; `reason` is empty if all went well.

    `waited_s`: from its submission to the complete gang; `ran_s`: from there to the end. `hosts`: slave and ranks, as
    `slave-1:2`.
    """

    exit_status: int
    reason: str = ""
    waited_s: float = 0.0
    ran_s: float = 0.0
    hosts: tuple[str, ...] = ()
