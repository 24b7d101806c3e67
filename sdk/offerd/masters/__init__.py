"""Finding the master that leads, and noticing that it is away."""
