"""`python -m fuzz TARGET [--inputs N] [--seed S]`: atheris drives a target of `fuzz.targets` by what code each input reaches.

Ends with 0 when all inputs are done. A finding ends it with another status, after its traceback and a file `crash-...` in the
current directory, whose bytes repeat it: `python -m fuzz TARGET crash-...`.
"""

from __future__ import annotations

import argparse
import sys

import atheris

with atheris.instrument_imports(include=["offerd", "offerd_master", "offerd_slave"]):
    from fuzz.targets import TARGETS

MAX_INPUT_BYTES = 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("repeat", nargs="*", help="files of inputs to repeat")
    parser.add_argument("--inputs", type=int, default=10_000, help="how many (10,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's own choices (1)")
    options = parser.parse_args()
    words = [
        sys.argv[0],
        f"-seed={options.seed}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-len_control=0",
        "-verbosity=1",
    ]
    words += options.repeat or [f"-runs={options.inputs}"]
    atheris.Setup(words, TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
