"""What `offerd run` and `offerd map` have in common: a batch of tasks, from the first launch to the exit status.

There are three kinds of threads: the driver's fills `batch.events`, the main thread handles them and talks to the user, and the
command's own bring the output. Ctrl-C, SIGTERM and a closed or full stdout end the tasks before they end this process.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty
from types import FrameType
from typing import Any

import msgspec

from offerd.driver import SchedulerDriver
from offerd.errors import BadInput, OfferdError
from offerd.messages import CommandInfo
from offerd.operator_messages import Waiting
from offerd.wire.posix_text import bytes_of
from offerd_cli.batch import COMMAND_EXECUTOR, Batch, Broken, Ended, Event, Preparing, Started, framework
from offerd_cli.exit_statuses import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, EXIT_TERMINATED
from offerd_cli.screen import Screen, logged_to
from offerd_cli.task_options import TaskOptions
from offerd_cli.waits import Reasons, sentence

MAX_FAILURES_SHOWN = 10
"""Of so many failed tasks each is explained in a line."""
KILL_WAIT_S = 10.0
"""How long to wait for the tasks' ends after Ctrl-C. What is left then, the master kills when we unregister."""
TURN_S = 0.1
PACED_FROM = 500
PACE_S = 0.01
"""From this number of tasks on, ends are handled a hundred times a second: a wake-up for each would double the cost."""
MAX_WORD_BYTES = (128 << 10) - 1
"""The kernel allows no longer argument or environment string (MAX_ARG_STRLEN)."""
MAX_WORDS_BYTES = 768 << 10
"""All words together must fit into one message..."""
WORD_BYTES = 5
"""... with this many more bytes for the length of each."""
MAX_WORDS = 1 << 16
MAX_VARIABLES = 1 << 14
NO_VARIABLES: Mapping[str, str] = {}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: like Ctrl-C, with another exit status."""


class Work:
    """One batch at work. Subclasses define what an event means (`handle`) and the exit status (`verdict`)."""

    explains_while_running = True

    def __init__(self, who: str, batch: Batch, master: str, task: TaskOptions) -> None:
        self.batch = batch
        self.screen = Screen(who, progress=batch.count > 1)
        self.driver = SchedulerDriver(
            batch,
            framework(task.name, task.user, os.uname().nodename, batch.executor, task.role),
            master,
            connect_timeout_s=None,
        )
        self.ended = 0
        self.failed = 0
        self._expected = batch.count
        self._explainer = Explainer(self)
        self._preparing = ""  # the latest message about a place that is being prepared
        self._is_preparing_shown = False

    # -- For subclasses ---------------------------------------------------------------------------------------------

    def handle(self, event: Started | Ended) -> None:
        """A task has started to run, or has ended."""
        raise NotImplementedError

    def turn(self) -> None:
        """Called after each batch of events: write what they brought. Raises `BrokenPipeError` and `CannotWrite`."""

    def finish(self) -> None:
        """All tasks have ended: write the last output."""

    def close(self) -> None:
        """Close threads and connections."""

    def verdict(self) -> int:
        """The exit status, if all tasks have ended by themselves."""
        raise NotImplementedError

    def halt(self) -> None:
        """Launch no more tasks and kill running ones; `finish` and `verdict` follow when they have ended."""
        self.batch.cancel(self.driver)
        self._expected = self.ended + len(self.batch.running_ids())

    # -- The run --------------------------------------------------------------------------------------------

    def to_the_end(self) -> int:
        """Returns the exit status. Raises `OfferdError` if there is no master or if it refuses us, and `CannotWrite`."""
        with signals_interrupt(), logged_to(self.screen):
            try:
                self.driver.set_filters(self.batch.filters())
                self.driver.start()
                self.driver.wait_registered()
                self._explainer.begin()
                self._work(None)
                self.finish()
                self.screen.end_progress()
                return self.verdict()
            except KeyboardInterrupt as interrupt:
                return self._interrupted(interrupt)
            except BrokenPipeError:
                return EXIT_BROKEN_PIPE
            finally:
                self._leave()

    def _work(self, give_up_at: float | None) -> None:
        """Work until every task has ended, or until the time is over."""
        events = self.batch.events
        while self.ended < self._expected and (give_up_at is None or time.monotonic() < give_up_at):
            try:
                self._note(events.get(timeout=TURN_S))
                if self.batch.count > PACED_FROM:
                    time.sleep(PACE_S)
                for _ in range(events.qsize()):
                    self._note(events.get_nowait())
            except Empty:
                pass
            self.turn()
            self._explainer.turn()
            self.screen.progress(
                self.ended,
                self.batch.count,
                running=len(self.batch.running_ids()),
                failed=self.failed,
                text=self._explainer.text or self._preparing,
            )

    def _note(self, event: Event) -> None:
        if isinstance(event, Broken):
            self.driver.join()
            raise OfferdError("the connection to the master has ended")
        if isinstance(event, Preparing):
            self._prepare(event.message)
            return
        if self._preparing:
            self._preparing = ""
            self.screen.end_progress()
        if isinstance(event, Ended):
            self.ended += 1
        if isinstance(event, Started | Ended):
            self.handle(event)

    def _prepare(self, message: str) -> None:
        """Show this message: always on a terminal, elsewhere once."""
        if not self.screen.waiting(f"waiting: {message}") and not self._is_preparing_shown:
            self.screen.note(f"waiting: {message}")
        self._preparing, self._is_preparing_shown = message, True

    def _interrupted(self, interrupt: KeyboardInterrupt) -> int:
        """Kill everything and wait for that; after a second Ctrl-C do not wait: the master ends the tasks then."""
        self.screen.leave_line()
        try:
            left = len(self.batch.running_ids())
            self.halt()
            tasks = f"{left} task{'s' * (left != 1)}"
            if left and not self.driver.is_registered:
                self.screen.note(away_text(tasks))
            elif left:
                self.screen.note(f"killing {tasks}")
            if self.driver.is_registered:
                self._work(time.monotonic() + KILL_WAIT_S)
                self.finish()
        except KeyboardInterrupt:
            self.screen.note("not waiting for the tasks' ends")
        except BrokenPipeError:
            return EXIT_BROKEN_PIPE
        return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED

    def _leave(self) -> None:
        """Unregister, which ends what still runs. If the driver ended by an error, that has been raised already."""
        self.screen.end_progress()
        self.close()
        self.driver.stop()
        try:
            self.driver.join()
        except OfferdError:
            if self.driver.is_registered:
                raise


def away_text(tasks: str) -> str:
    """After Ctrl-C, if there is no master that could kill the tasks."""
    may = "it may run on, until a master is back and ends it" if tasks.startswith("1 ") else ""
    return (
        f"the master is away and cannot kill {tasks}: "
        f"{may or 'they may run on, until a master is back and ends them'}; then check with `offerd tasks`"
    )


class Explainer:
    """While tasks wait, asks the master for the reason, after a second and then repeatedly, and prints it when it changes.

    If `Work.explains_while_running` is False it asks only while no task runs, or once if a time limit would give the tasks more
    room. Tasks that wait for other tasks of the same command need no explanation.
    """

    def __init__(self, work: Work) -> None:
        self.text = ""
        self._work = work
        self._reasons = Reasons()
        self._last_reason = ""
        self._is_limit_advised = False

    def begin(self) -> None:
        self._reasons.rest()

    def turn(self) -> None:
        work, batch = self._work, self._work.batch
        is_at_work = bool(batch.running_ids()) and not work.explains_while_running
        has_more_to_say = batch.time_limit_s is None and not self._is_limit_advised
        if not batch.waiting or batch.is_full or (is_at_work and not has_more_to_say):
            self.text = ""
            self._reasons.rest()
            return
        if is_at_work:
            self.text = ""
        answer = self._reasons.turn(lambda: work.driver.explain_waiting(batch.resources, batch.time_limit_s))
        if answer is None:
            return
        if not is_at_work:
            self._show(answer)
        elif answer.short_limit_s:
            self._is_limit_advised = True
            work.screen.note(f"{batch.waiting} of {batch.count} wait: {sentence(answer)}")

    def _show(self, waiting: Waiting) -> None:
        batch, screen = self._work.batch, self._work.screen
        if screen.shows_progress:
            self.text = f"{batch.waiting} wait: {sentence(waiting)}"
        elif waiting.why != self._last_reason:
            who = "waiting" if batch.count == 1 else f"{batch.waiting} of {batch.count} wait"
            screen.note(f"{who}: {sentence(waiting)}")
        self._last_reason = waiting.why


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """In this context SIGTERM and SIGHUP interrupt like Ctrl-C, so that no task is left running unnoticed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def batch_of(task: TaskOptions, count: int, command: Callable[[int], CommandInfo], **options: Any) -> Batch:
    """A batch of `count` tasks with these options; `options` are for `Batch`."""
    return Batch(
        count,
        command,
        task.resources,
        prefix=task_prefix(task.name),
        name=task.name,
        time_limit_s=task.time_limit_s,
        attributes=task.attributes,
        executor=msgspec.structs.replace(COMMAND_EXECUTOR, image=task.image, pull=task.pull),
        **options,
    )


def command_info(
    task: TaskOptions, argv: list[str], environment: Mapping[str, str] = NO_VARIABLES
) -> CommandInfo:
    """What a task runs, in the requested environment; `environment` is added to that."""
    return CommandInfo(
        argv=argv,
        environment={**environment, **task.environment},
        directory=task.directory,
        umask=task.umask,
    )


def task_prefix(name: str) -> str:
    """A recognisable task id that no other run has: `sleep-3f9a2c`."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)[:40].lstrip('-') or 'task'}-{os.urandom(3).hex()}"


def check_words(words: list[str], environment: dict[str, str]) -> None:
    """Raise `BadInput` for a command that the kernel would not start or a message could not hold."""
    sizes = [len(bytes_of(word)) for word in words]
    sizes += [len(bytes_of(f"{key}={value}")) for key, value in environment.items()]
    if max(sizes) > MAX_WORD_BYTES:
        raise BadInput(
            f"an argument of {max(sizes)} bytes is longer than the kernel's limit of {MAX_WORD_BYTES}; use a file"
        )
    if sum(sizes) + WORD_BYTES * len(sizes) > MAX_WORDS_BYTES:
        raise BadInput(
            f"a command of {len(sizes)} words, {sum(sizes)} bytes, does not fit into one message; use a file"
        )
    if len(environment) > MAX_VARIABLES:
        raise BadInput(
            f"{len(environment)} variables are more than the {MAX_VARIABLES} that a task may be given"
        )
    if len(words) > MAX_WORDS:
        raise BadInput(f"a command of {len(words)} words is longer than {MAX_WORDS} words; use a file")
    if any("\0" in word for word in words):
        raise BadInput("an argument holds a zero byte, which cannot be passed to a program")
