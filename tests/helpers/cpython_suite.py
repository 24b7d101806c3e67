"""Find CPython's own tests of executors: with this Python, or in Debian's package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle

NAME = "test.test_concurrent_futures"
DEBIANS = Path("/usr/lib/python3.11/test/test_concurrent_futures.py")
"""From the package libpython3.11-testsuite."""
PARTS = (
    "util", "executor", "test_as_completed", "test_deadlock", "test_future", "test_init", "test_process_pool", "test_shutdown",
    "test_wait",
)  # fmt: skip
"""The parts of the tests, which are one module in Python 3.11 and a package in later versions."""


def why_not_here() -> str:
    """Why these tests cannot be run; empty if they can."""
    if sys.version_info[:2] == (3, 11) and DEBIANS.exists():
        return ""
    try:
        if importlib.util.find_spec(NAME) is not None:
            return ""
    except ModuleNotFoundError:
        pass
    return f"Python {sys.version_info[0]}.{sys.version_info[1]} here has no {NAME}: install Debian's libpython3.11-testsuite"


def load() -> Any:
    """The module, or all parts of the package in one namespace. Its functions are sent by value, as slaves do not have it."""
    if importlib.util.find_spec("test") is not None and importlib.util.find_spec(NAME) is not None:
        whole = importlib.import_module(NAME)
        modules = [whole]
        if hasattr(whole, "__path__"):
            modules += [importlib.import_module(f"{NAME}.{part}") for part in PARTS]
    else:
        spec = importlib.util.spec_from_file_location("cpython_test_concurrent_futures", DEBIANS)
        assert spec is not None
        assert spec.loader is not None
        whole = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = whole
        spec.loader.exec_module(whole)
        modules = [whole]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    return types.SimpleNamespace(
        **{name: value for module in modules for name, value in vars(module).items()}
    )
