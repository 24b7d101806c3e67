"""Conventions between an executor, its tasks and the readers of their output."""
