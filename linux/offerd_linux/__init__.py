"""What the kernel says about processes and does with them. It knows nothing of clusters: all other components may import it."""
