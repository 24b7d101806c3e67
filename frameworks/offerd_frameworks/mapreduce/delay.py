"""Delay scheduling: a job waits for a while rather than read its input from another host.

Zaharia et al., "Delay Scheduling" (EuroSys 2010), Algorithm 2, with times instead of counts, as the Mesos paper uses it (NSDI
2011, section 3.2: "near-optimal locality with waits of 1 to 5 seconds").
"""

from __future__ import annotations


class Delay:
    """How long one job has been waiting for a local offer. Times are the caller's, in seconds."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self._skipped_since_s: float | None = None

    def may_run_elsewhere(self, now: float) -> bool:
        """Whether the job should use an offered slot although none of its waiting tasks is local there.

        The first refusal starts the clock. A launch elsewhere does not stop it: a job that has waited may go on launching
        elsewhere until it gets a local slot.
        """
        if self._skipped_since_s is None:
            self._skipped_since_s = now
        return now - self._skipped_since_s >= self.wait_s

    def launched_locally(self) -> None:
        """A task was launched locally: the next wait starts anew."""
        self._skipped_since_s = None

    def left_s(self, now: float) -> float:
        """How much longer a slot elsewhere would be refused."""
        if self._skipped_since_s is None:
            return self.wait_s
        return max(0.0, self._skipped_since_s + self.wait_s - now)
