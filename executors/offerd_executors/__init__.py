"""The executors that run tasks: command and python."""
