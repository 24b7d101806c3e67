"""The slave's pure core: takes events, returns actions; uses no clock, socket, file or process."""
