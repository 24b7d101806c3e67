"""Many commands through the scheduler behind `offerd map`, in this process: its framework stays until it was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty

from offerd.driver import SchedulerDriver
from offerd.errors import OfferdError
from offerd.messages import CommandInfo
from offerd.resources import Resources
from offerd_cli.batch import INLINE_OUTPUT, Batch, Ended, framework

DEADLINE_S = 60.0


@contextmanager
def running(address: str, name: str, count: int, resources: Resources) -> Iterator[Batch]:
    """Run `/bin/true` `count` times, as a framework that ends with this context."""
    batch = Batch(
        count,
        lambda index: CommandInfo(argv=["/bin/true", str(index)]),
        resources,
        prefix=name,
        name="true",
        time_limit_s=60.0,
        labels=INLINE_OUTPUT,
        report_starts=False,
        may_join=True,
    )
    driver = SchedulerDriver(batch, framework(name), address)
    driver.start()
    try:
        yield batch
    finally:
        driver.stop()
        driver.join(DEADLINE_S)


def wait_ended(batch: Batch, count: int) -> None:
    """Wait for `count` more ends. Raises `OfferdError` if a task fails, or if no end comes."""
    for _ in range(count):
        try:
            event = batch.events.get(timeout=DEADLINE_S)
        except Empty:
            raise OfferdError(f"no task has ended for {DEADLINE_S:g} s") from None
        if not isinstance(event, Ended):
            raise OfferdError("the driver of a framework has ended early")
        if event.status.exit_status != 0:
            raise OfferdError(f"a task ended badly: {event.status.reason} {event.status.message}")
