"""The simulator: the master's real core in virtual time, and experiments that compare it with the paper's figures."""
