"""The slave's pure core: events in, actions out; no clock, socket, file or process."""
