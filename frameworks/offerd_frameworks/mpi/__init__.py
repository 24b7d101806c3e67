"""MPI jobs as a framework: rigid gangs over offers, run by MPICH's process manager without ssh.

Read as an example: `core/` decides (pure, no clock and no process), `hydra.py` handles `mpiexec.hydra`, `framework.py` joins
both to the public SDK, `spool.py` keeps a queue in a directory.
"""
