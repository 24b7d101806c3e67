"""What the kernel says of processes, and does with them. It knows nothing of clusters: all other components may stand on it."""
