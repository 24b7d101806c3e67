"""Simulated frameworks: what they ask for and how long it takes is a model; their messages to the master are real."""
