"""What the daemons of master and slave have in common: logs, recordings, open files."""
