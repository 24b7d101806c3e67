"""A cluster of real daemons under random faults, and a ledger that has to come out even: `make chaos`."""
