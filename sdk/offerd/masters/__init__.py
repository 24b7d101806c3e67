"""Finding the leading master, and noticing that it is away."""
