"""Decides for the MPI framework which offers to hold, when a gang is complete, and how a job ends. No clock and no process."""
