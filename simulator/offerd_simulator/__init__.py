"""The simulator: the master's core of production in virtual time, and experiments that put it beside the paper's figures."""
