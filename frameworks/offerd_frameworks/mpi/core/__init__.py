"""What the MPI framework decides: which offers to hold, when a gang is complete, how a job ends. Pure: no clock, no process."""
