"""Isolation modules: what holds an executor and its tasks to their resources."""
