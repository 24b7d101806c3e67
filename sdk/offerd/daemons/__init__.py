"""What the daemons of master and slave have in common: logs, recordings, and modules that an option names."""
