"""How `offerd map` works: one process for each argument, in a task of its own or with other short ones in one task. Each output
is printed as a whole, in the order in which they end or in the order of the arguments.

Most outputs are small and come with the task's last status. Larger ones are fetched from the slave
(`offerd_cli.large_outputs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offerd.errors import BadInput
from offerd.messages import Reason, TaskOutput, TaskStatus
from offerd.tasks.task_output import EVERYTHING, KEEP_LABEL, WHOLE, OutputRead, pack_read
from offerd_cli.arguments import Arguments
from offerd_cli.batch import INLINE_OUTPUT, Ended, Place, Started
from offerd_cli.outcome import advice, exit_status, sentence, speaks_for_itself
from offerd_cli.places import Template
from offerd_cli.screen import say
from offerd_cli.shelf import Output, Shelf
from offerd_cli.task_options import TaskOptions
from offerd_cli.working import MAX_FAILURES_SHOWN, Work, batch_of, check_words, command_info

if TYPE_CHECKING:
    from offerd_cli.large_outputs import LargeOutputs

MAX_FAILURES = 100
"""The largest exit status that is a count; 101 means more, as in GNU parallel."""
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MapJob:
    """What to run for which arguments, from the command line."""

    master: str
    words: list[str]
    arguments: Arguments
    task: TaskOptions
    max_running: int | None = None
    keep_order: bool = False
    retries: int = 0
    halt: bool = False


def map_job(job: MapJob) -> int:
    """Run the job to its end; returns the exit status."""
    if not job.arguments:
        say("offerd map: there are no arguments, so nothing was run")
        return 0
    template = Template(job.words, job.arguments.sources)
    check_sizes(job, template)
    return Map(job, template).to_the_end()


def check_sizes(job: MapJob, template: Template) -> None:
    """Raise `BadInput` if a command could not be sent or started."""
    if any("\0" in word for word in job.arguments.words()):
        raise BadInput(
            "an argument holds a zero byte, which cannot be passed to a program; did you mean --null?"
        )
    try:
        check_words(template.fill(job.arguments.longest(), len(job.arguments)), job.task.environment)
    except BadInput:
        # No single command need hold the longest argument of each source, and a name is shorter than its path.
        for number, argument in enumerate(job.arguments, 1):
            check_words(template.fill(argument, number), job.task.environment)


class Map(Work):
    """One `offerd map`."""

    explains_while_running = False

    def __init__(self, job: MapJob, template: Template) -> None:
        batch = batch_of(
            job.task,
            len(job.arguments),
            lambda index: command_info(job.task, template.fill(job.arguments[index], index + 1)),
            max_running=job.max_running,
            retries=job.retries,
            labels=INLINE_OUTPUT | {KEEP_LABEL: WHOLE},
            report_starts=False,
            may_join=True,
        )
        super().__init__("offerd map", batch, job.master, job.task)
        self._job = job
        self._template = template
        self._large: LargeOutputs | None = None
        self._held = Shelf()  # with --keep-order: outputs that came before their turn
        self._next = 0
        self._out = bytearray()
        self._err = bytearray()
        self._halted = False
        self._shown = 0

    def handle(self, event: Started | Ended) -> None:
        if not isinstance(event, Ended):
            return
        index, status, place, part = event
        if exit_status(status) != 0:
            self._failure(index, status)
        if part is not None and not part.is_in_files:
            self._take(index, Output(part.stdout, part.stderr))
        elif status.container_id and status.reason != Reason.COMMAND_NOT_STARTED:
            self._fetch(index, status, place, status.output if part is None else part.output)
        else:
            self._take(index, Output())

    def turn(self) -> None:
        while self._large is not None and self._large.is_ready:
            self._collect(self._large)
        self._flush()

    def finish(self) -> None:
        while self._large is not None and self._large.outstanding:
            self._collect(self._large)
        for index in self._held.indices():  # after --halt there are gaps
            self._next = index
            self._print_in_turn()
        self._flush()

    def close(self) -> None:
        if self._large is not None:
            self._large.close()
        self._held.close()

    def verdict(self) -> int:
        if self.failed > self._shown or self.failed > 1:
            self.screen.note(f"{self.failed} of {self.batch.count} failed")
        if self._halted:
            return 1
        return min(self.failed, MAX_FAILURES + 1)

    def _failure(self, index: int, status: TaskStatus) -> None:
        if self._halted:
            return
        is_news = not speaks_for_itself(status) and not self.batch.is_ours(status)
        if is_news and self._shown < MAX_FAILURES_SHOWN:
            self._shown += 1
            argument = self._job.arguments[index]
            meant = advice(status, self._template.fill(argument, index + 1), self._job.task.directory)
            self.screen.note(f"{' '.join(argument)}: {sentence(status)}{meant}")
        self._count_failure()

    def _count_failure(self) -> None:
        self.failed += 1
        if self._job.halt and not self._halted:
            self._halted = True
            self.halt()

    # -- Outputs ----------------------------------------------------------------------------------------------------

    def _take(self, index: int, output: Output) -> None:
        """An output has come: print it, or keep it until its turn."""
        if not self._job.keep_order:
            self._print(output)
            return
        if index == self._next:
            self._next += 1
            self._print(output)
        else:
            self._held.put(index, output)
        self._print_in_turn()

    def _print_in_turn(self) -> None:
        while (output := self._held.take(self._next)) is not None:
            self._next += 1
            self._print(output)

    def _print(self, output: Output) -> None:
        for part, buffer, to_stderr in ((output.stdout, self._out, False), (output.stderr, self._err, True)):
            if isinstance(part, bytes):
                buffer += part
                continue
            self._flush()
            with part:
                while content := part.read(_COPY_BYTES):
                    self.screen.write(content, to_stderr=to_stderr)

    def _flush(self) -> None:
        for buffer, to_stderr in ((self._out, False), (self._err, True)):
            if buffer:
                content = bytes(buffer)
                buffer.clear()
                self.screen.write(content, to_stderr=to_stderr)

    def _fetch(self, index: int, status: TaskStatus, place: Place, written: TaskOutput | None) -> None:
        if self._large is None:
            from offerd_cli.large_outputs import LargeOutputs

            self._large = LargeOutputs()
        self._large.fetch(index, status, place, written)

    def _collect(self, large: LargeOutputs) -> None:
        index, status, stdout, stderr, lost = large.take()
        if lost:
            self.screen.note(f"{' '.join(self._job.arguments[index])}: {lost}")
            if exit_status(status) == 0:
                self._count_failure()
        else:  # we have the output, so the slave need not keep it
            read = OutputRead(status.task_id, EVERYTHING, EVERYTHING)
            self.driver.send_framework_message(status.slave_id, status.executor_id, pack_read(read))
        self._take(index, Output(stdout or b"", stderr or b""))
