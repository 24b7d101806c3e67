"""How `offerd run` works: stream the output, and exit as the command does."""

from __future__ import annotations

from dataclasses import dataclass

from offerd.messages import CommandInfo, TaskStatus
from offerd.tasks.task_output import KEEP_LABEL, UNTIL_READ, WHOLE, OutputRead, pack_read
from offerd_cli.batch import Ended, Started
from offerd_cli.exit_statuses import EXIT_OUTPUT_LOST
from offerd_cli.outcome import advice, exit_status, sentence, speaks_for_itself
from offerd_cli.outputs import Follower
from offerd_cli.task_options import TaskOptions
from offerd_cli.working import MAX_FAILURES_SHOWN, Work, batch_of, check_words, command_info


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, from the command line."""

    master: str
    words: list[str]
    task: TaskOptions
    instances: int = 1
    streams: bool = True

    def command(self, index: int) -> CommandInfo:
        """The command of one instance."""
        numbers = {"OFFERD_INSTANCE": str(index + 1), "OFFERD_INSTANCES": str(self.instances)}
        return command_info(self.task, self.words, numbers)


def run_job(job: Job) -> int:
    """Run the job to its end; returns the exit status."""
    check_words(job.words, job.task.environment)
    return Run(job).to_the_end()


class Run(Work):
    """One `offerd run`."""

    def __init__(self, job: Job) -> None:
        batch = batch_of(
            job.task,
            job.instances,
            job.command,
            labels={KEEP_LABEL: UNTIL_READ if job.streams else WHOLE},
        )
        super().__init__("offerd run", batch, job.master, job.task)
        self._job = job
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

    def _advice(self, status: TaskStatus) -> str:
        return advice(status, self._job.words, self._job.task.directory)

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
                self.screen.note(sentence(status) + self._advice(status))
            return exit_status(status) or (EXIT_OUTPUT_LOST if self._follower.lost else 0)
        failures = [
            (index, status) for index, status in sorted(self._statuses.items()) if exit_status(status) != 0
        ]
        for index, status in failures[:MAX_FAILURES_SHOWN]:
            self.screen.note(f"[{index + 1}] {sentence(status)}{self._advice(status)}")
        failed = self._follower.lost | {index for index, _ in failures}
        if failed:
            self.screen.note(f"{len(failed)} of {self.batch.count} instances failed")
        return 1 if failed else 0
