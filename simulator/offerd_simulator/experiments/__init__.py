"""The experiments: each is a module with `run(options, progress) -> Result`, imported when it is needed."""

from __future__ import annotations

import importlib
import time

from offerd_simulator.results import Options, Progress, Result

EXPERIMENTS = {
    "table2": "Ramp-up, completion and utilization of one framework, beside the paper's Table 2.",
    "long-tasks": "Nodes full of long tasks, and whether killing by the clock wastes work.",
    "macro": "Four frameworks on one cluster of 96 nodes, against four static partitions.",
    "locality": "Delay scheduling: how many tasks run where their data is.",
    "scale": "What a probe task waits for a master with 1,000 to 50,000 slaves.",
}


def run(name: str, options: Options, progress: Progress) -> Result:
    """Run one experiment. Raises `BadInput` if its options cannot be used."""
    module = importlib.import_module(f"offerd_simulator.experiments.{name.replace('-', '_')}")
    started = time.perf_counter()
    result: Result = module.run(options, progress)
    result.computing_s = time.perf_counter() - started
    return result
