"""MPI jobs as a framework: rigid gangs over offers, run by MPICH's process manager without ssh.

As an example of a framework: `core/` decides (pure, no clock and no process), `hydra.py` runs `mpiexec.hydra`, `framework.py`
connects both to the public SDK, and `spool.py` keeps a queue in a directory.
"""
