"""MPI programs for tests: compiled with MPICH's own compiler, run by `offerd mpi`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "mpi"


def need_mpich() -> None:
    """Skip where MPICH is not installed."""
    for program in ("mpiexec.hydra", "mpicc"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: apt-get install mpich libmpich-dev gcc")


def compile_mpi(source: Path, folder: Path) -> str:
    """The path of the program."""
    program = folder / source.stem
    subprocess.run(
        ["mpicc", "-O2", "-Wall", "-Werror", "-ffp-contract=off", str(source), "-o", str(program)],
        check=True,
        timeout=60,
    )
    return str(program)


def mpich_abi(folder: Path) -> str:
    """A directory in which the wheel of mpi4py finds MPICH's library under the name that it looks for."""
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    library = next(line.split(" => ")[1] for line in listing.splitlines() if "libmpich.so.12 " in line)
    abi = folder / "abi"
    abi.mkdir()
    (abi / "libmpi.so.12").symlink_to(library)
    return str(abi)
