"""Keys: the files that hold them, and how a host or a person gets one."""
