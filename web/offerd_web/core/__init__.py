"""What a master's answers add up to. Pure: no clock, no socket, no file."""
