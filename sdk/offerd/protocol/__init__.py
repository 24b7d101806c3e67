"""Messages that no user writes: between slaves and executors, about files, keys and recordings."""
