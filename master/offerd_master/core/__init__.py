"""The master as a state machine: no clock, socket, file or random inside."""
