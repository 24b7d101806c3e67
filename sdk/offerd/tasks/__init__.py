"""What an executor, its tasks and those who read their output agree about."""
