"""Messages that users never write: between slaves and executors, about files, keys and recordings."""
