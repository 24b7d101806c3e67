"""The pure parts: what a scheduler's driver knows and decides, and what the cores of master and slave compute with."""
