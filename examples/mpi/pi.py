"""Pi from a numerical integral, whose strips are divided among the ranks (mpi4py).

    offerd mpi -n 4 -- python3 pi.py

The wheel of mpi4py looks for MPICH's library as libmpi.so.12; Debian calls it libmpich.so.12. See docs/mpi.md.
"""

from __future__ import annotations

from mpi4py import MPI

STRIPS = 100_000

world = MPI.COMM_WORLD
width = 1.0 / STRIPS
part = sum(4.0 / (1.0 + ((strip + 0.5) * width) ** 2) for strip in range(world.rank, STRIPS, world.size))
total = world.reduce(part * width, op=MPI.SUM, root=0)
if world.rank == 0:
    print(f"pi is {total:.10f} by {world.size} ranks")
