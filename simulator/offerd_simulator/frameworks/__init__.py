"""Frameworks made of numbers: what they ask for and how long it takes is a model, what they say to the master is real."""
