"""Allocation modules decide which framework is offered what became free. `choose.py` finds them by name."""
