"""Frameworks that show how to use offerd."""
