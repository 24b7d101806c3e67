"""How much of a cluster each framework holds over time: sampled while something runs, drawn in a terminal afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from offerd.operator import OperatorClient
from offerd.workers import start_thread
from offerd_cli.plot import plot, resample
from offerd_cli.units import format_duration

SAMPLE_S = 0.1
COLUMNS, ROWS = 64, 3
COLOURS = ("green", "magenta", "cyan", "yellow")


class Shares:
    """In this context, a thread samples the fraction of the cluster's cpus that each framework holds."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._times: list[float] = []
        self._samples: list[Mapping[str, float]] = []
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="offerd-shares", daemon=True)

    def __enter__(self) -> Shares:
        start_thread(self._thread)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Raises the error that has ended the thread, unless another one is being raised."""
        self._over.set()
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._sample()
        except BaseException as error:  # marked: whoever waits for the thread raises it
            self._failure = error

    def _sample(self) -> None:
        with OperatorClient(self._address) as client:
            total = client.cluster().total.millicpus or 1
            while not self._over.wait(SAMPLE_S):
                held: dict[str, float] = {}
                for framework in client.frameworks():
                    part = framework.used.millicpus / total
                    held[framework.name] = held.get(framework.name, 0.0) + part
                self._times.append(time.monotonic())
                self._samples.append(held)

    @property
    def names(self) -> list[str]:
        """All frameworks that were seen, in the order in which they came."""
        return list(dict.fromkeys(name for held in self._samples for name in held))

    def draw(self, out: Console) -> None:
        """Draw one plot for each framework, one below the other, with a common time axis."""
        if not self._samples:
            return
        out.print()
        out.print(Text("CPUS HELD OVER TIME", style="bold dim"))
        for number, name in enumerate(self.names):
            values = [held.get(name, 0.0) for held in self._samples]
            lines = plot(resample(list(zip(self._times, values, strict=True)), COLUMNS), ROWS)
            colour = COLOURS[number % len(COLOURS)]
            for row, line in enumerate(lines):
                label = "100%" if row == 0 else "  0%" if row == ROWS - 1 else "    "
                title = f"  {name}" if row == ROWS // 2 else ""
                out.print(Text.assemble((f"{label} ", "dim"), (line, colour), (title, f"bold {colour}")))
        length = format_duration(self._times[-1] - self._times[0])
        out.print(Text(f"     0s{length:>{COLUMNS - 2}}", style="dim"))
