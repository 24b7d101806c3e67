"""The pure parts of the SDK: the core of a scheduler's driver, and what the cores of master and slave share with it."""
