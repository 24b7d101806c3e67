"""Allocation modules: who is offered what became free. `choose.py` finds them by name."""
