"""How `offerd run` works: stream the output, end as the command ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from offerd.messages import CommandInfo, TaskStatus
from offerd.resources import Resources
from offerd.task_output import KEEP_LABEL, UNTIL_READ, WHOLE, OutputRead, pack_read
from offerd_cli.batch import COMMAND_EXECUTOR, Batch, Ended, Started
from offerd_cli.outcome import EXIT_OUTPUT_LOST, exit_status, sentence, speaks_for_itself
from offerd_cli.outputs import Follower
from offerd_cli.working import Work, check_words, task_prefix

MAX_FAILURES_TOLD = 10
RUNS_IMAGES = {"images": "yes"}
"""Attribute of slaves whose isolation runs them."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, as the command line gave it."""

    master: str
    words: list[str]
    resources: Resources
    instances: int = 1
    time_limit_s: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = ""
    umask: int | None = None
    user: str = ""
    name: str = ""
    role: str = "*"
    attributes: dict[str, str] = field(default_factory=dict)
    image: str = ""
    pull: str = ""
    streams: bool = True

    def command(self, index: int) -> CommandInfo:
        """Of one instance."""
        numbers = {"OFFERD_INSTANCE": str(index + 1), "OFFERD_INSTANCES": str(self.instances)}
        return CommandInfo(
            argv=self.words,
            environment={**numbers, **self.environment},
            directory=self.directory,
            umask=self.umask,
        )


def run_job(job: Job) -> int:
    """Run it to its end; returns the exit status."""
    check_words(job.words, job.environment)
    return Run(job).to_the_end()


class Run(Work):
    """One `offerd run`."""

    def __init__(self, job: Job) -> None:
        batch = Batch(
            job.instances,
            job.command,
            job.resources,
            prefix=task_prefix(job.name),
            name=job.name,
            time_limit_s=job.time_limit_s,
            attributes=job.attributes | (RUNS_IMAGES if job.image else {}),
            executor=replace(COMMAND_EXECUTOR, image=job.image, pull=job.pull),
            labels={KEEP_LABEL: UNTIL_READ if job.streams else WHOLE},
        )
        super().__init__("offerd run", batch, job.master, name=job.name, user=job.user, role=job.role)
        self._follower = Follower(
            self.screen, instances=job.instances, streams=job.streams, say_read=self._say_read
        )
        self._statuses: dict[int, TaskStatus] = {}

    def handle(self, event: Started | Ended) -> None:
        if event.status.container_id:
            self._follower.follow(event.number, event.place, event.status)
        if isinstance(event, Ended):
            self._statuses[event.number] = event.status
            self.failed += exit_status(event.status) != 0
            self._follower.finish(event.number, event.status)

    def _say_read(self, status: TaskStatus, read: OutputRead) -> None:
        self.driver.send_framework_message(status.slave_id, status.executor_id, pack_read(read))

    def turn(self) -> None:
        self._follower.check()

    def finish(self) -> None:
        self._follower.finish_all()

    def close(self) -> None:
        self._follower.close()

    def verdict(self) -> int:
        if self.batch.count == 1:
            status = self._statuses[0]
            if not speaks_for_itself(status):
                self.screen.note(sentence(status))
            return exit_status(status) or (EXIT_OUTPUT_LOST if self._follower.lost else 0)
        failures = [
            (index, status) for index, status in sorted(self._statuses.items()) if exit_status(status) != 0
        ]
        for index, status in failures[:MAX_FAILURES_TOLD]:
            self.screen.note(f"[{index + 1}] {sentence(status)}")
        failed = self._follower.lost | {index for index, _ in failures}
        if failed:
            self.screen.note(f"{len(failed)} of {self.batch.count} instances failed")
        return 1 if failed else 0
