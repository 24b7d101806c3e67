"""The base classes of messages and descriptions, and the checks of their fields."""
