"""The coverage-guided fuzzer on the decoders and cores, for some thousand inputs; `make test-nightly` gives it more.

A finding is repeated by `PYTHONPATH=tests .venv/bin/python -m fuzz TARGET FILE`, with the bytes that the failure prints.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

MESSAGES = int(os.environ.get("OFFERD_FUZZ_MESSAGES", "20000"))
INPUTS = MESSAGES // 10
"""Inputs for each target; an input is up to three dozen messages."""
TESTS = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="needs atheris, which this Python has no wheel of"
    ),
    pytest.mark.timeout(120 + INPUTS),
]


@pytest.mark.parametrize("target", ["decode", "master", "slave", "scheduler"])
def test_no_input_makes_a_core_raise(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", target, "--inputs", str(INPUTS)],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
    )
    # The fuzzer names such a file crash-, oom- or timeout-, with a digest.
    found = [base64.b64encode(file.read_bytes()).decode() for file in tmp_path.glob("*-*")]
    _, _, traceback = done.stderr.partition("Uncaught Python exception")
    assert done.returncode == 0, f"{traceback[:3000]}\n{found}"
    assert f"Done {INPUTS} runs" in done.stderr
