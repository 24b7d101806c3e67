"""What master and slave have in common as daemons: logs, recordings, open files."""
